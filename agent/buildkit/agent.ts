// The client's ssh agent: a connection in the build's container, carried over the session to the agent's own socket.

import { once } from "node:events";
import type { Duplex } from "node:stream";
import type { Exchange } from "./calls.ts";
import { messages } from "./messages.ts";

const chunks = messages("moby.sshforward.v1.BytesMessage");

/** Ends with either of both, and ends them. */
export async function carryToAgent(connection: Duplex, exchange: Exchange): Promise<void> {
  const up = async () => {
    // Its end is not the end of what comes back.
    for await (const data of connection.iterator({ destroyOnReturn: false }))
      if (!exchange.write(chunks.encode({ data: data as Buffer }))) await exchange.drained();
    exchange.end();
  };
  const down = async () => {
    for await (const message of exchange.messages())
      if (!connection.write(chunks.decode(message).data)) await once(connection, "drain");
    connection.end();
  };
  connection.once("close", () => exchange.close());
  try {
    await Promise.all([up(), down()]);
  } finally {
    connection.destroy();
    exchange.close();
  }
}
