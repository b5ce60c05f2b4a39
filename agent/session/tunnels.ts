// Tunnels that managers ask this node for: it calls the manager, and what comes is for the node's API.

import type { Duplex } from "node:stream";
import type { TunnelRequest } from "../../proto/gen/types.ts";
import type { NodeIdentity } from "../../proto/identity.ts";
import { messageOf } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import { Client } from "../../proto/rpc-client.ts";
import { toManager } from "../../proto/tls.ts";
import { tunnelStream } from "../../proto/tunnel.ts";

const tunnelsMax = 64;

/** Serves what comes over the stream, until it ends. */
export type TunnelHandler = (stream: Duplex) => void;

/** They live as long as this: the session may change its manager meanwhile. */
export class Tunnels {
  readonly #log: Log;
  readonly #open = new Set<Duplex>();
  readonly #clients = new Map<string, { readonly client: Client<"Dispatch">; users: number }>();
  #handler: TunnelHandler | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  handle(handler: TunnelHandler): void {
    this.#handler = handler;
  }

  open({ ID, Manager }: TunnelRequest, identity: NodeIdentity): void {
    if (this.#handler === null || this.#open.size >= tunnelsMax) {
      this.#log.warn({ manager: Manager, open: this.#open.size }, "a tunnel was asked for in vain");
      return;
    }
    const client = this.#borrow(Manager, identity);
    const stream = tunnelStream(ID, (said, signal) => client.duplex("Tunnel", said, { signal }));
    this.#open.add(stream);
    stream.on("error", (error) =>
      this.#log.debug({ manager: Manager, error: messageOf(error) }, "a tunnel broke off"),
    );
    stream.once("close", () => {
      this.#open.delete(stream);
      this.#giveBack(Manager, client);
    });
    this.#handler(stream);
  }

  closeAll(): void {
    for (const stream of this.#open) stream.destroy();
  }

  /** One connection for all tunnels to a manager that are open at a time. */
  #borrow(manager: string, identity: NodeIdentity): Client<"Dispatch"> {
    const known = this.#clients.get(manager);
    if (known !== undefined) {
      known.users += 1;
      return known.client;
    }
    const client = new Client("Dispatch", manager, toManager(identity, identity.clusterId));
    this.#clients.set(manager, { client, users: 1 });
    return client;
  }

  #giveBack(manager: string, client: Client<"Dispatch">): void {
    const known = this.#clients.get(manager);
    if (known?.client !== client) return;
    known.users -= 1;
    if (known.users > 0) return;
    this.#clients.delete(manager);
    client.close();
  }
}
