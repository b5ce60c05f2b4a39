// Lanes of Raft's messages: frames from another manager, changed on their way. Whatever comes, the next one is answered.

import { once } from "node:events";
import grpc from "@grpc/grpc-js";
import { newKeyAndCsr } from "../../agent/session/identity.ts";
import { createRoot, signNode } from "../../manager/identity/ca.ts";
import { framed } from "../../manager/peers/frames.ts";
import { Peers } from "../../manager/peers/peers.ts";
import { toWire } from "../../manager/peers/wire.ts";
import { ClusterPort } from "../../manager/port.ts";
import type { Message } from "../../manager/raft/types.ts";
import { codec } from "../../proto/codec.ts";
import { silentLog } from "../../proto/kit/log.ts";
import { realWorld } from "../../proto/kit/world.ts";
import { dialManager, type Identity } from "../../proto/tls.ts";
import { sayHello } from "../unit/manager/peers/say-hello.ts";
import { type Door, door, mutated } from "./doors.ts";

const clusterId = "cluster1";
const goneMsMax = 10_000;
const Hello = { ClusterID: clusterId, Epoch: 1, From: "b", To: "a", Address: "" };

const envelope = { from: "b", to: "a", term: 7 };
const messages: readonly Message[] = [
  { ...envelope, kind: "RequestVote", lastIndex: 9, lastTerm: 6, transfer: false },
  { ...envelope, kind: "Heartbeat", commit: 3, sequence: 4 },
  {
    ...envelope,
    kind: "AppendEntries",
    ...{ prevIndex: 2, prevTerm: 1, commit: 2, stream: 5 },
    entries: [
      { kind: "data", index: 3, term: 7, data: Buffer.from("bytes") },
      { kind: "noop", index: 4, term: 7 },
    ],
  },
];
const begin = framed(codec("RaftMessages").encode({ Hello, Messages: [] }));
const rest = framed(codec("RaftMessages").encode({ Messages: messages.map(toWire) }));
const samples = [Buffer.concat([begin, framed(Buffer.alloc(0)), rest]), begin, rest];

/** Sends them and leaves; rejects when the port keeps a connection that the other end has left. */
async function send(address: string, identity: Identity, bytes: Buffer): Promise<void> {
  const socket = dialManager(address, identity, clusterId);
  await once(socket, "secureConnect");
  socket.on("error", () => {});
  socket.resume();
  socket.end(bytes);
  if (!socket.closed) await once(socket, "close", { signal: AbortSignal.timeout(goneMsMax) });
}

export async function laneDoors(): Promise<{ doors: readonly Door[]; close(): Promise<void> }> {
  const root = await createRoot(Date.now());
  const certified = async (nodeId: string): Promise<Identity> => {
    const { key, csr } = await newKeyAndCsr();
    const node = { nodeId, role: "manager", clusterId } as const;
    const certificate = await signNode(root, csr, node, Date.now());
    return { certificate, key, rootCA: root.certificate };
  };
  const [own, other] = [await certified("a"), await certified("b")];
  const peers = new Peers({
    ...{ id: "a", clusterId, epoch: 1, address: "", world: realWorld, log: silentLog },
    addressOf: () => null,
    identity: () => own,
    isRemoved: () => false,
    onRemoved: () => {},
    onSuperseded: () => {},
  });
  peers.start({
    step: (message) => {
      if (message.from !== "b" || message.to !== "a") throw new Error("a message of nobody's");
    },
    receiveSnapshot: async () => {},
    undelivered: () => {},
    disconnected: () => {},
  });
  const isKnown = () => true;
  const port = new ClusterPort({ identity: own, isKnown, world: realWorld, log: silentLog });
  const server = new grpc.Server();
  const number = await port.listen(
    server,
    "127.0.0.1:0",
    (socket, caller) => void peers.takeLane(socket, caller, () => undefined),
  );
  const address = `127.0.0.1:${number}`;
  const lanes = door("frames of a lane", 1, mutated(samples), async (bytes) => {
    await send(address, other, bytes);
    await sayHello(address, other, Hello);
  });
  return {
    doors: [lanes],
    close: async () => {
      port.close();
      server.forceShutdown();
      await peers.close();
    },
  };
}
