// What a container on the default bridge gets in its environment of those it is linked to, as Docker has it. Pure.

export interface Linked {
  readonly alias: string;
  readonly address: string;
  /** `80/tcp`. */
  readonly ports: readonly string[];
  readonly env: readonly string[];
}

/** `parent`: the name of the container that gets it. */
export function linkEnvironment(parent: string, { alias, address, ports, env }: Linked): string[] {
  const prefix = alias.replaceAll("-", "_").toUpperCase();
  const sorted = ports.map(numberAndProtocol).sort(byNumber);
  const [first] = sorted;
  const lines: string[] = [];
  if (first !== undefined)
    lines.push(`${prefix}_PORT=${first.protocol}://${address}:${first.number}`);
  for (const { number, protocol } of sorted) {
    const key = `${prefix}_PORT_${number}_${protocol.toUpperCase()}`;
    lines.push(`${key}=${protocol}://${address}:${number}`);
    lines.push(`${key}_ADDR=${address}`, `${key}_PORT=${number}`, `${key}_PROTO=${protocol}`);
  }
  lines.push(`${prefix}_NAME=/${parent}/${alias}`);
  for (const entry of env)
    if (/^(?!(_|PATH)=)[^=]+=/.test(entry)) lines.push(`${prefix}_ENV_${entry}`);
  return lines;
}

interface Port {
  readonly number: number;
  readonly protocol: string;
}

function numberAndProtocol(port: string): Port {
  const [number = "", protocol = "tcp"] = port.split("/");
  return { number: Number(number), protocol };
}

/** Of one number the one over TCP first. */
function byNumber(a: Port, b: Port): number {
  return a.number - b.number || (a.protocol === "tcp" ? -1 : 1);
}
