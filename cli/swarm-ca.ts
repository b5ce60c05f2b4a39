// `tsswarm swarm ca`: the cluster's root certificate, and the next one.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { CAConfig, Cluster, Node } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import type { DockerCommand } from "./command.ts";
import { Screen } from "./screen.ts";
import type { Terminal } from "./terminal.ts";
import { duration, UsageError } from "./values.ts";

const pauseMs = 200;
const barWidth = 50;

type External = CAConfig["ExternalCAs"][number];

interface CaFlags {
  readonly rotate?: boolean;
  readonly caCert?: string;
  readonly caKey?: string;
  readonly certExpiry?: number;
  readonly externalCa?: readonly External[];
  readonly detach?: boolean;
  readonly quiet?: boolean;
}

export function addCaCommand(swarm: DockerCommand, open: () => Terminal): void {
  swarm
    .command("ca")
    .description("Display and rotate the root CA")
    .option(
      "--rotate",
      "Rotate the swarm CA - if no certificate or key are provided, new ones will be generated",
    )
    .option(
      "--ca-cert <pem-file>",
      "Path to the PEM-formatted root CA certificate to use for the new cluster",
    )
    .option(
      "--ca-key <pem-file>",
      "Path to the PEM-formatted root CA key to use for the new cluster",
    )
    .option("--cert-expiry <duration>", "Validity period for node certificates", duration)
    .option(
      "--external-ca <external-ca>",
      "Specifications of one or more certificate signing endpoints",
      external,
    )
    .option("-d, --detach", "Exit immediately instead of waiting for the root rotation to converge")
    .option("-q, --quiet", "Suppress progress output")
    .action((flags: CaFlags) => ca(open(), flags));
}

/** protocol=cfssl,url=https://…[,cacert=FILE][,key=value…] */
export function external(text: string, all: readonly External[] = []): readonly External[] {
  const wrong = (what: string) => new UsageError(`invalid external CA "${text}": ${what}`);
  const Options: Record<string, string> = {};
  let [Protocol, URL, CACert] = ["", "", ""];
  for (const part of text.split(",")) {
    const at = part.indexOf("=");
    if (at < 0) throw wrong(`${part} is to be a key=value pair`);
    const [key, value] = [part.slice(0, at).trim().toLowerCase(), part.slice(at + 1)];
    if (key === "protocol") Protocol = value;
    else if (key === "url") URL = value;
    else if (key === "cacert") CACert = readPem(value);
    else Options[key] = value;
  }
  if (Protocol !== "cfssl") throw wrong("protocol=cfssl is expected");
  if (URL === "") throw wrong("the external-ca option needs a url= parameter");
  return [...all, { Protocol, URL, CACert, Options }];
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** The cluster's settings with what the flags say of its CA. Throws a UsageError for what does not go together. */
export function caSettings(now: Body<CAConfig>, flags: CaFlags): Body<CAConfig> {
  const { caCert, caKey, externalCa = [], certExpiry } = flags;
  if (externalCa.length > 0 && caCert === undefined)
    throw new UsageError(
      "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - to add an external CA with the current root CA certificate, use the `update` command instead",
    );
  if (caCert !== undefined && caKey === undefined && externalCa.length === 0)
    throw new UsageError(
      "the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well",
    );
  const isOurs = caCert === undefined && caKey === undefined;
  return {
    ...now,
    SigningCACert: caCert === undefined ? "" : readPem(caCert),
    SigningCAKey: caKey === undefined ? "" : readPem(caKey),
    ...(certExpiry === undefined ? {} : { NodeCertExpiry: certExpiry }),
    ...(externalCa.length === 0 ? {} : { ExternalCAs: externalCa }),
    ...(isOurs ? { ForceRotate: (now.ForceRotate ?? 0) + 1 } : {}),
  };
}

async function ca(terminal: Terminal, flags: CaFlags): Promise<void> {
  const { client } = terminal;
  const swarm = await client.get<Body<Cluster>>("/swarm");
  if (flags.rotate !== true) {
    const given = {
      "ca-cert": flags.caCert,
      "ca-key": flags.caKey,
      "cert-expiry": flags.certExpiry,
      "external-ca": flags.externalCa,
    };
    for (const [flag, value] of Object.entries(given))
      if (value !== undefined)
        throw new UsageError(`\`--${flag}\` flag requires the \`--rotate\` flag to update the CA`);
    return show(terminal, swarm);
  }
  const CAConfig = caSettings(swarm.Spec?.CAConfig ?? {}, flags);
  await client.post("/swarm/update", {
    body: { ...swarm.Spec, CAConfig },
    query: { version: swarm.Version?.Index ?? 0 },
  });
  if (flags.detach === true) return;
  const left = new AbortController();
  const leave = () => left.abort();
  process.once("SIGINT", leave);
  try {
    if (!(await watchRotation(terminal, flags.quiet === true, left.signal))) {
      terminal.print(
        "Operation continuing in background.\nUse `tsswarm swarm ca --rotate` again to start over, `tsswarm node ls` to see the nodes.\n",
      );
      return;
    }
  } finally {
    process.off("SIGINT", leave);
  }
  if (flags.quiet !== true) show(terminal, await client.get<Body<Cluster>>("/swarm"));
}

function show(terminal: Terminal, { TLSInfo }: Body<Cluster>): void {
  const root = TLSInfo?.TrustRoot ?? "";
  terminal.print(root === "" ? "No CA information available\n" : `${root.trim()}\n`);
}

export interface RotationProgress {
  readonly lines: readonly string[];
  readonly isDone: boolean;
}

/** How far the nodes are. Pure. */
export function rotationProgress(
  swarm: Body<Cluster>,
  nodes: readonly Body<Node>[],
): RotationProgress {
  const wanted = swarm.TLSInfo;
  const isInProgress = swarm.RootRotationInProgress === true;
  const shown = nodes.map(({ Description }) => Description?.TLSInfo);
  const certified = shown.filter(
    (one) =>
      one?.CertIssuerPublicKey === wanted?.CertIssuerPublicKey &&
      one?.CertIssuerSubject === wanted?.CertIssuerSubject,
  ).length;
  const trusting = shown.filter((one) => one?.TrustRoot === wanted?.TrustRoot).length;
  const digest = createHash("sha256")
    .update(wanted?.TrustRoot ?? "")
    .digest("hex");
  const total = nodes.length;
  const bar = (done: number) => {
    const filled = total === 0 ? 0 : Math.round((done / total) * barWidth);
    return `[${`${"=".repeat(filled)}>`.padEnd(barWidth + 1)}] ${done}/${total} nodes`;
  };
  const waiting = nodes.filter(
    ({ Status, Description }) =>
      Status?.State === "down" &&
      Description?.TLSInfo?.CertIssuerPublicKey !== wanted?.CertIssuerPublicKey,
  );
  const away = waiting.map(({ ID, Description }) => Description?.Hostname ?? ID ?? "").join(", ");
  return {
    lines: [
      `desired root digest: sha256:${digest}`,
      `  rotated TLS certificates: ${bar(certified)}`,
      `  rotated CA certificates:  ${isInProgress ? "" : bar(trusting)}`.trimEnd(),
      ...(away === "" ? [] : [`waiting for ${away} to come back (or be removed with \`node rm\`)`]),
    ],
    isDone: !isInProgress && certified === total && trusting === total,
  };
}

/** False when the signal came first. */
async function watchRotation(
  terminal: Terminal,
  isQuiet: boolean,
  signal: AbortSignal,
): Promise<boolean> {
  const screen = new Screen(terminal);
  while (!signal.aborted) {
    const { client } = terminal;
    const [swarm, nodes] = await Promise.all([
      client.get<Body<Cluster>>("/swarm"),
      client.get<readonly Body<Node>[]>("/nodes"),
    ]);
    const { lines, isDone } = rotationProgress(swarm, nodes);
    if (!isQuiet) screen.show(lines, "");
    if (isDone) return true;
    await delay(pauseMs, undefined, { signal }).catch(() => {});
  }
  return false;
}
