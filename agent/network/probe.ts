// Whether the peers' routers answer over the overlay, at full size: an echo request to each now and then.

import { closeSync } from "node:fs";
import koffi from "koffi";
import { errnoOf, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { ipBytes, ipText } from "../../proto/kit/ip.ts";
import type { Log } from "../../proto/kit/log.ts";
import { errnoName, inNamespace } from "../../proto/kit/netns.ts";
import type { World } from "../../proto/kit/world.ts";
import { libc } from "./libc.ts";

const AF_INET = 2;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const ICMP = 1;
const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;
const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_DO = 2;
const headersBytes = 28;
const identifier = 0x7377;

const everyMs = 10_000;
const answerMsMax = 1_000;
const burstMax = 100;
const burstMs = 20;

/** Where to probe from and whom. */
export interface ProbeTargets {
  /** Path of the router's namespace. */
  readonly namespace: string;
  readonly mtu: number;
  readonly peers: readonly { readonly nodeId: string; readonly address: string }[];
}

export interface ProbeSurroundings {
  readonly world: World;
  readonly log: Log;
  /** Absent: over the network. */
  readonly ask?: typeof probe;
}

/**
 * Probes for ever; `report` hears the node ids that did not answer. Whoever is asked for the first time may not be ready: its silence
 * counts from the second time on.
 */
export async function runProbe(
  targets: () => ProbeTargets | null,
  report: (silent: readonly string[]) => void,
  { world, log, ask = probe }: ProbeSurroundings,
  signal: AbortSignal,
): Promise<void> {
  let asked: ReadonlySet<string> = new Set();
  for (;;) {
    await world.sleep(everyMs, signal);
    const wanted = targets();
    const known = asked;
    asked = new Set(wanted?.peers.map(({ nodeId }) => nodeId));
    if (wanted === null || asked.size === 0) {
      report([]);
      continue;
    }
    try {
      const silent = await ask(wanted, world, signal);
      report(silent.filter((nodeId) => known.has(nodeId)));
    } catch (error) {
      if (signal.aborted) throw error;
      log.warn({ error: messageOf(error), code: errnoOf(error) }, "the peers could not be probed");
    }
  }
}

/** Node ids of those that answered neither of two requests. */
export async function probe(
  { namespace, mtu, peers }: ProbeTargets,
  world: World,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const fd = openSocket(namespace);
  const request = echoRequest(mtu - headersBytes);
  let silent = [...peers];
  try {
    for (let attempt = 0; attempt < 2 && silent.length > 0; attempt++) {
      for (let start = 0; start < silent.length; start += burstMax) {
        for (const { address } of silent.slice(start, start + burstMax)) send(fd, request, address);
        await world.sleep(burstMs, signal);
      }
      const answered = await answers(fd, silent.length, world, signal);
      silent = silent.filter(({ address }) => !answered.has(address));
    }
  } finally {
    closeSync(fd);
  }
  return silent.map(({ nodeId }) => nodeId);
}

async function answers(
  fd: number,
  expected: number,
  world: World,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  const buffer = Buffer.allocUnsafe(256);
  // Looked for a few times rather than waited on: nothing else hangs on the moment of the answer.
  for (let waitedMs = 0; ; waitedMs += answerMsMax / 10) {
    while (libc().recv(fd, buffer, buffer.length, 0) > 0) {
      const header = ((buffer[0] ?? 0) & 0x0f) * 4;
      const isOurs = buffer.readUInt16BE(header + 4) === identifier;
      if (buffer[header] === ECHO_REPLY && isOurs) found.add(ipText(buffer.subarray(12, 16)));
    }
    if (found.size >= expected || waitedMs >= answerMsMax) return found;
    await world.sleep(answerMsMax / 10, signal);
  }
}

function openSocket(namespace: string): number {
  const fd = inNamespace(namespace, () => libc().socket(AF_INET, SOCK_RAW_NONBLOCK_CLOEXEC, ICMP));
  if (fd < 0) {
    const errno = koffi.errno();
    throw new SwarmError("internal", `no ICMP socket in ${namespace}: ${errnoName(errno)}`);
  }
  const mode = Uint8Array.of(IP_PMTUDISC_DO, 0, 0, 0);
  libc().setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, mode, mode.length);
  return fd;
}

/** What cannot be sent is not answered, and reported as that. */
function send(fd: number, request: Buffer, address: string): void {
  const to = Buffer.alloc(16);
  to.writeUInt16LE(AF_INET, 0);
  to.set(ipBytes(address), 4);
  libc().sendto(fd, request, request.length, 0, to, to.length);
}

function echoRequest(bytes: number): Buffer {
  const message = Buffer.alloc(Math.max(8, bytes));
  message[0] = ECHO_REQUEST;
  message.writeUInt16BE(identifier, 4);
  message.writeUInt16BE(1, 6);
  message.writeUInt16BE(checksum(message), 2);
  return message;
}

/** RFC 1071, over an even number of bytes or with a zero after the last. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
