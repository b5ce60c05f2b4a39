// A client of a build, as far as its session goes: a gRPC server on a connection that it has opened.

import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Frames, framed } from "../../../../agent/buildkit/frames.ts";

/** What a call is answered: messages, or a status that is none of success. */
export type Answer = readonly Buffer[] | { readonly code: number; readonly words: string };
export type Calls = Readonly<
  Record<string, (request: Buffer, headers: http2.IncomingHttpHeaders) => Promise<Answer>>
>;

export interface FakeClient {
  /** The daemon's end of the connection. */
  readonly socket: net.Socket;
  goAway(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function fakeClient(calls: Calls): Promise<FakeClient> {
  const folder = mkdtempSync(join(tmpdir(), "session-"));
  const path = join(folder, "s");
  const daemon = net.createServer();
  daemon.listen(path);
  await once(daemon, "listening");
  const end = net.connect(path);
  const [socket] = (await once(daemon, "connection")) as [net.Socket];
  const server = http2.createServer();
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    void serve(stream, headers, calls);
  });
  server.emit("connection", end);
  return {
    socket,
    goAway: () => end.destroy(),
    async [Symbol.asyncDispose]() {
      end.destroy();
      socket.destroy();
      daemon.close();
      rmSync(folder, { recursive: true });
    },
  };
}

async function serve(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  calls: Calls,
): Promise<void> {
  const frames = new Frames();
  const asked: Buffer[] = [];
  for await (const bytes of stream) asked.push(...frames.take(bytes as Buffer));
  const call = calls[headers[":path"] ?? ""];
  const none = { code: 12, words: "unknown method" };
  const answer = call === undefined ? none : await call(asked[0] ?? Buffer.alloc(0), headers);
  const type = { ":status": 200, "content-type": "application/grpc" };
  if ("code" in answer) {
    const status = { "grpc-status": `${answer.code}`, "grpc-message": encodeURI(answer.words) };
    stream.respond({ ...type, ...status }, { endStream: true });
    return;
  }
  stream.respond(type, { waitForTrailers: true });
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  for (const message of answer) stream.write(framed(message));
  stream.end();
}
