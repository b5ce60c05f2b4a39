// What `tsswarm doctor` asks of this node: are its networks as they should be, do peers and managers answer, and if not,
// what to do.

import { connect } from "node:net";
import { errnoOf, SwarmError } from "../proto/kit/errors.ts";
import { hostOf } from "./addresses.ts";
import type { Diagnosis, Doctor, Finding, LocalNode } from "./api/types.ts";
import type { Difference, NetworkCheck, SilentPeer } from "./network/types.ts";

const managerMsMax = 2_000;
const managersMax = 64;

export class NodeDoctor implements Doctor {
  readonly #network: NetworkCheck;
  readonly #local: () => LocalNode;

  constructor(network: NetworkCheck, local: () => LocalNode) {
    this.#network = network;
    this.#local = local;
  }

  async examine({ repair }: { readonly repair: boolean }, signal: AbortSignal): Promise<Diagnosis> {
    const local = this.#local();
    const [ofNetwork, peers, managers] = await Promise.all([
      repair ? this.#repair() : this.#network.check().then((found) => found.map(ofDifference)),
      this.#network.silentPeers(signal),
      Promise.all(local.managers.slice(0, managersMax).map(({ Addr }) => tryManager(Addr, signal))),
    ]);
    return {
      NodeID: local.nodeId,
      LocalNodeState: local.state,
      Findings: [
        ...ofSession(local),
        ...managers.filter((finding) => finding !== null),
        ...this.#network.obstacles().map(ofObstacle),
        ...peers.map(ofPeer),
        ...ofNetwork,
      ],
    };
  }

  /** A second look tells what could not be put right. */
  async #repair(): Promise<readonly Finding[]> {
    const found = await this.#network.repair();
    if (found.length === 0) return [];
    const left = await this.#network.check();
    const sentences = new Set(left.map(({ sentence }) => sentence));
    const gone = found.filter(({ sentence }) => !sentences.has(sentence));
    return [
      ...gone.map((difference) => ({ ...ofDifference(difference), Repaired: true })),
      ...left.map(ofDifference),
    ];
  }
}

export function ofDifference(difference: Difference): Finding {
  const { what, where, sentence, how } = difference;
  return {
    What: what,
    Where: where,
    Wanted: how === "stray" ? "" : difference.wanted,
    Actual: how === "missing" ? "" : difference.actual,
    Sentence: sentence,
    Repaired: false,
  };
}

export function ofPeer(peer: SilentPeer): Finding {
  const { hostname, dataPathAddr, dataPathPort, answersSmall, packetBytes } = peer;
  const who = `${hostname} (${dataPathAddr})`;
  const Sentence = answersSmall
    ? `${who} answers small packets over the overlay but none of full size: the way there has to pass ${packetBytes} bytes in one packet; else start the daemons with a smaller --mtu`
    : `${who} does not answer over the overlay: open UDP port ${dataPathPort} between the nodes, in both directions, and see that it runs`;
  const Wanted = answersSmall ? `packets of ${packetBytes} bytes` : `UDP port ${dataPathPort}`;
  return { What: "peer", Where: hostname, Wanted, Actual: "", Sentence, Repaired: false };
}

function ofObstacle(Sentence: string): Finding {
  const where = { What: Sentence.startsWith("port ") ? "port" : "firewall", Where: "this host" };
  return { ...where, Wanted: "", Actual: "", Sentence, Repaired: false };
}

export function ofManager(address: string, why: string): Finding {
  const port = address.slice(address.lastIndexOf(":") + 1);
  return {
    What: "manager",
    Where: hostOf(address),
    Wanted: `TCP port ${port}`,
    Actual: "",
    Sentence: `the manager at ${address} does not answer (${why}): open TCP port ${port} on it, and see that it runs`,
    Repaired: false,
  };
}

function ofSession({ state, error }: LocalNode): readonly Finding[] {
  if (state !== "error") return [];
  const Sentence = `the managers refuse this node: ${error}`;
  return [
    { What: "session", Where: "this node", Wanted: "", Actual: error, Sentence, Repaired: false },
  ];
}

/** null when somebody listens at the address (host:port). */
async function tryManager(address: string, signal: AbortSignal): Promise<Finding | null> {
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  const limit = AbortSignal.any([signal, AbortSignal.timeout(managerMsMax)]);
  try {
    await new Promise<void>((resolve, reject) => {
      const socket = connect({ host: hostOf(address), port });
      const stop = () => socket.destroy(new SwarmError("unavailable", "no answer"));
      limit.addEventListener("abort", stop, { once: true });
      socket.on("connect", () => {
        socket.destroy();
        resolve();
      });
      socket.on("error", reject);
      socket.on("close", () => limit.removeEventListener("abort", stop));
    });
    return null;
  } catch (error) {
    return ofManager(
      address,
      limit.aborted ? `no answer within ${managerMsMax} ms` : errnoOf(error),
    );
  }
}
