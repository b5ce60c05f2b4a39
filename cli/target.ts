// Where a daemon is: unix:///path, tcp://host:port, with TLS or without, or ssh://user@host.

/** What a client shows and believes on TLS. PEM. */
export interface ClientTls {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  /** Whether the daemon's certificate has to be of this CA and for the host's name. */
  readonly isVerified: boolean;
}

export type Target =
  | { readonly kind: "unix"; readonly socketPath: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "tls"; readonly host: string; readonly port: number; readonly tls: ClientTls }
  | { readonly kind: "ssh"; readonly args: readonly string[] };

const plainPortDefault = 2375;
const tlsPortDefault = 2376;
const sshSecondsMax = 30;
/** Whatever the other machine has of the two. */
const remoteCommand =
  "if command -v tsswarm >/dev/null 2>&1; then exec tsswarm system dial-stdio; else exec docker system dial-stdio; fi";

/** Throws on what is no host. */
export function parseTarget(host: string, tls: ClientTls | null): Target {
  if (host.startsWith("unix://")) return { kind: "unix", socketPath: host.slice("unix://".length) };
  if (host.startsWith("ssh://")) return { kind: "ssh", args: sshArgs(host) };
  const tcp = /^(?:tcp|http|https):\/\/(\[[^\]]+\]|[^:/]+)(?::(\d+))?\/?$/.exec(host);
  if (tcp === null)
    throw new Error(
      `invalid host "${host}": unix:///path, tcp://host:port or ssh://user@host is expected`,
    );
  const name = (tcp[1] ?? "").replace(/^\[|\]$/g, "");
  if (tls === null) return { kind: "tcp", host: name, port: Number(tcp[2] ?? plainPortDefault) };
  return { kind: "tls", host: name, port: Number(tcp[2] ?? tlsPortDefault), tls };
}

function sshArgs(host: string): readonly string[] {
  const url = URL.canParse(host) ? new URL(host) : null;
  const name = decodeURIComponent(url?.hostname ?? "").replace(/^\[|\]$/g, "");
  const user = decodeURIComponent(url?.username ?? "");
  if (url === null || name === "" || url.password !== "" || `${name}${user}`.startsWith("-"))
    throw new Error(`invalid host "${host}": ssh://[user@]host[:port] is expected`);
  return [
    ...["-o", `ConnectTimeout=${sshSecondsMax}`, "-T"],
    ...(user === "" ? [] : ["-l", user]),
    ...(url.port === "" ? [] : ["-p", url.port]),
    ...["--", name, remoteCommand],
  ];
}
