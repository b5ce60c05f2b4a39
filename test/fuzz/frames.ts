// The cluster port below gRPC: bytes where HTTP/2 frames should be, from a stranger and from a node. Whatever comes, others are answered.

import { connect, type TLSSocket } from "node:tls";
import fc from "fast-check";
import { Client } from "../../proto/rpc-client.ts";
import { type Identity, toManagerWithoutIdentity } from "../../proto/tls.ts";
import { joinedTo } from "../unit/manager/nodes.ts";
import { smallCluster } from "../unit/manager/small-cluster.ts";
import { type Door, door, mutated } from "./doors.ts";

const answerMsMax = 30_000;
const goneMsMax = 10_000;

const kinds = { data: 0, headers: 1, settings: 4, ping: 6, windowUpdate: 8, continuation: 9 };
const endStream = 1;
const endHeaders = 4;

/** RFC 9113, section 4.1. */
function frame(kind: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = kind;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Literal fields that are not indexed, their strings as they are (RFC 7541, section 6.2.2). */
function fields(pairs: Readonly<Record<string, string>>): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
  return Buffer.concat(
    Object.entries(pairs).flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)]),
  );
}

function call(path: string, stream: number): Buffer {
  const asked = fields({
    ":method": "POST",
    ":scheme": "https",
    ":path": path,
    ":authority": "swarm-manager",
    te: "trailers",
    "content-type": "application/grpc",
  });
  const message = Buffer.concat([Buffer.of(0, 0, 0, 0, 2), Buffer.of(10, 0)]);
  return Buffer.concat([
    frame(kinds.headers, endHeaders, stream, asked),
    frame(kinds.data, endStream, stream, message),
  ]);
}

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const settings = frame(kinds.settings, 0, 0, Buffer.alloc(0));
const samples = [
  Buffer.concat([preface, settings, call("/tsswarm.Join/GetRootCA", 1)]),
  Buffer.concat([preface, settings, call("/tsswarm.Dispatch/Session", 1)]),
  Buffer.concat([preface, settings, call("/tsswarm.Calls/Carry", 1), call("/none/none", 3)]),
  Buffer.concat([
    ...[preface, settings, frame(kinds.windowUpdate, 0, 0, Buffer.from([0, 0, 255, 255]))],
    ...[frame(kinds.ping, 0, 0, Buffer.alloc(8)), frame(kinds.headers, 0, 1, fields({ a: "b" }))],
    frame(kinds.continuation, endHeaders, 1, fields({ c: "d" })),
  ]),
];

/** Sends them and leaves; rejects when the port keeps a connection that the other end has left. */
async function send(address: string, identity: Identity | null, bytes: Buffer): Promise<void> {
  const [host = "", port = ""] = address.split(":");
  const own = identity === null ? {} : { cert: identity.certificate, key: identity.key };
  const socket: TLSSocket = connect({
    ...{ host, port: Number(port), ...own, minVersion: "TLSv1.3" },
    ...{ ALPNProtocols: ["h2"], rejectUnauthorized: false },
  });
  await new Promise<void>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("the port keeps the connection")), goneMsMax);
    // However it ends.
    socket.on("error", () => {});
    socket.once("close", () => {
      clearTimeout(late);
      resolve();
    });
    socket.once("secureConnect", () => socket.end(bytes));
    socket.resume();
  });
}

export async function frameDoors(): Promise<{ doors: readonly Door[]; close(): Promise<void> }> {
  const cluster = await smallCluster();
  const node = await joinedTo(cluster);
  const other = new Client("Join", cluster.address, toManagerWithoutIdentity(node.rootCA));
  const frames = door(
    "frames at the cluster port",
    1,
    fc.tuple(mutated(samples), fc.boolean()),
    async ([bytes, isNode]) => {
      await send(cluster.address, isNode ? node : null, bytes);
      const { Certificate } = await other.unary("GetRootCA", {}, { timeoutMs: answerMsMax });
      if (Certificate !== node.rootCA) throw new Error("others get another answer");
    },
  );
  return {
    doors: [frames],
    close: async () => {
      other.close();
      await cluster[Symbol.asyncDispose]();
    },
  };
}
