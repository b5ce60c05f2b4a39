// What a manager's port answers to the first words of a lane.

import { once } from "node:events";
import { Line } from "../../../../manager/peers/line.ts";
import { codec } from "../../../../proto/codec.ts";
import type { RaftHello } from "../../../../proto/gen/types.ts";
import { type ErrorCode, SwarmError } from "../../../../proto/kit/errors.ts";
import { certifiedNode, dialManager, type Identity, leafOf } from "../../../../proto/tls.ts";

const frameBytesMax = 1024;

/** Resolves when the lane is taken; rejects with the refusal, or with `unavailable` when the connection ends without one. */
export async function sayHello(address: string, as: Identity, Hello: RaftHello): Promise<void> {
  const { clusterId = "" } = certifiedNode(leafOf(as.certificate)) ?? {};
  const socket = dialManager(address, as, clusterId);
  await once(socket, "secureConnect");
  await new Promise<void>((resolve, reject) => {
    const line = new Line(socket, frameBytesMax, {
      frame: (bytes) => {
        if (bytes.length === 0) resolve();
        else {
          const { Code, Message } = codec("RaftRefusal").decode(bytes);
          reject(new SwarmError(Code as ErrorCode, Message));
        }
        line.close();
      },
      broken: reject,
    });
    void line.ended.then(() => reject(new SwarmError("unavailable", "the connection ended")));
    line.send(codec("RaftMessages").encode({ Hello, Messages: [] }));
    line.giveSign();
  });
}
