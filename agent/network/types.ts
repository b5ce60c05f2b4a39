// The node's part of the overlay networks, as the rest of the agent sees it.

import type {
  Endpoint,
  Network as NetworkObject,
  Peer,
  VirtualService,
} from "../../proto/gen/types.ts";

/** Everything the managers say about the networks this node takes part in. Whole, not a delta. */
export interface ClusterView {
  readonly self: {
    readonly nodeId: string;
    readonly index: number;
    readonly dataPathAddr: string;
    readonly dataPathPort: number;
  };
  readonly networks: readonly NetworkObject[];
  readonly peers: readonly Peer[];
  readonly services: readonly VirtualService[];
  readonly endpoints: readonly Endpoint[];
}

export interface Attachment {
  readonly networkId: string;
  /** One of each family at most, the IPv4 one first; of a family left out, on a network of this node only, any free one. */
  readonly addresses: readonly string[];
  /** The default route leads through the network with the highest, Docker's gw-priority; absent: 0. */
  readonly gatewayPriority?: number;
  /** The container's device; absent: eth and its place in the list. */
  readonly device?: string;
  /** On a network of this node; absent: one that follows from the address, or (ipvlan, passthru) the parent's. */
  readonly mac?: string;
  /** Further addresses of its device (Docker's link-local ones): nothing leads there from elsewhere. */
  readonly linkLocal?: readonly string[];
  /** By which others on a network of this node find it. */
  readonly names?: readonly string[];
}

/** A container's device on a link of the host, as the kernel has them. */
export type DirectDevice =
  | { readonly kind: "macvlan"; readonly mode: "bridge" | "private" | "vepa" | "passthru" }
  | {
      readonly kind: "ipvlan";
      readonly mode: "l2" | "l3" | "l3s";
      readonly flag: "bridge" | "private" | "vepa";
    };

/** How the containers of a direct network are on a link of the host. */
export type DirectLink = DirectDevice & {
  /** One that is there, or NAME.VLAN, which is made. "": a switch of the network's own, which leads nowhere. */
  readonly parent: string;
};

/** A network of this node alone, beside the one of containers without any. */
export interface LocalNetwork {
  readonly id: string;
  readonly name: string;
  readonly isInternal: boolean;
  /** Without a router: no translation and no published ports. Absent: routed and translated as that of containers without any. */
  readonly direct?: DirectLink;
  /** Its containers reach each other by published ports alone (Docker's enable_icc=false). */
  readonly keepsApart?: boolean;
  /** Bytes; absent or 0: as much as there is. */
  readonly mtu?: number;
  readonly subnets: readonly {
    readonly cidr: string;
    readonly prefix: number;
    /** "": none (on direct networks). */
    readonly gateway: string;
    /** Where addresses given at will come from; absent: all of it. */
    readonly range?: string;
    /** By name: addresses given to nobody. */
    readonly auxiliary?: Readonly<Record<string, string>>;
  }[];
}

/** A container's network namespace and what is in it. */
export interface Sandbox {
  /** The task's or container's id. */
  readonly id: string;
  /** Empty: a local network of this node, which leads out but to no other node, as Docker's default bridge. */
  readonly attachments: readonly Attachment[];
  /** No network at all, only the loopback device (Docker's network "none"). */
  readonly isolated?: boolean;
  /** Host-mode ports of this container. */
  readonly ports: readonly {
    readonly protocol: string;
    readonly targetPort: number;
    readonly publishedPort: number;
    readonly hostIP?: string;
  }[];
  /** Its ports are held, but lead nowhere: it is not ready yet, or is to stop. */
  readonly isClosed?: boolean;
  /** Its ports must be nobody else's: else `conflict`. For tasks the managers see to that. */
  readonly exclusive?: boolean;
  readonly upstreamNameServers: readonly string[];
  readonly searchDomains: readonly string[];
  /** What it alone calls others on its networks, in lower case. */
  readonly aliases?: Readonly<Record<string, string>>;
}

/** One thing in the kernel or the keeper that is not as it should be. */
export type Difference = {
  readonly what:
    | "namespace"
    | "link"
    | "setting"
    | "address"
    | "route"
    | "neighbour"
    | "forward"
    | "rule"
    | "table"
    | "chain"
    | "set"
    | "map"
    | "names";
  /** In words: "the host", "the router of network web", "container 3f…". */
  readonly where: string;
  /** What is wrong and where, for people. */
  readonly sentence: string;
} & (
  | { readonly how: "missing"; readonly wanted: string }
  | { readonly how: "changed"; readonly wanted: string; readonly actual: string }
  | { readonly how: "stray"; readonly actual: string }
);

/** A peer whose router does not answer over the overlay. */
export interface SilentPeer {
  readonly nodeId: string;
  readonly hostname: string;
  readonly dataPathAddr: string;
  readonly dataPathPort: number;
  /** It answers small packets: those of full size are lost on the way. */
  readonly answersSmall: boolean;
  /** Bytes of the outer packets that have to pass whole. */
  readonly packetBytes: number;
}

/** Looking after what stands. Neither breaks a connection, and both let changes go between their steps. */
export interface NetworkCheck {
  /** Compares kernel and keeper with what they should have. Nothing is changed; empty until the managers have spoken. */
  check(): Promise<readonly Difference[]>;
  /** The same, and puts right what it found, as an update would. Returns what was found. */
  repair(): Promise<readonly Difference[]>;
  /** Has the repair that runs by itself now and then begin now. */
  checkSoon(): void;
  /** What else on this host keeps packets from our networks, in sentences: firewalls, programs that have a port. */
  obstacles(): readonly string[];
  /** Asks every peer now; takes up to 5 s. */
  silentPeers(signal: AbortSignal): Promise<readonly SilentPeer[]>;
}

export interface Network {
  /** Makes the kernel and the keeper's name tables agree with the view. Calls are serialised; resolves when they agree. */
  update(view: ClusterView): Promise<void>;
  /**
   * The networks of this node alone there are, all of them. By id, why one has no parent (yet): `precondition` with Docker's
   * sentence, `unsupported` by this kernel. It is tried again for each container that starts there.
   */
  setLocalNetworks(networks: readonly LocalNetwork[]): Promise<ReadonlyMap<string, unknown>>;
  /**
   * Makes (or completes, after a crash half-way) a namespace and wires it. Idempotent. The view must hold its networks.
   * With other attachments than before it is connected to the new ones and disconnected from those that are gone.
   */
  createSandbox(sandbox: Sandbox): Promise<{
    readonly namespace: string;
    /** As given, or the addresses on the local network. */
    readonly attachments?: readonly Attachment[];
  }>;
  /** Removes it and what leads to it. Idempotent. */
  removeSandbox(id: string): Promise<void>;
  /** Ids of the sandboxes there are, also those of before a restart. */
  sandboxes(): Promise<readonly string[]>;
  /** Closes the sandbox's ports; resolves when no connection to it is open any more, or after `msMax`. */
  drain(id: string, msMax: number, signal: AbortSignal): Promise<void>;
  /** Node ids whose router did not answer the last probe. */
  unreachablePeers(): readonly string[];
  /** A sentence for each published port that a program of this host has. */
  unheldPorts(): readonly string[];
  /** Leaves every network of the swarm: removes all of it from the kernel, but for sandboxes on this node's own networks. */
  clear(): Promise<void>;
  close(): Promise<void>;
}
