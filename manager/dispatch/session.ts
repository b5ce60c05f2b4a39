// One agent's session as the manager sees it: what it has been sent, and under which version.

import { isDeepStrictEqual } from "node:util";
import { codec } from "../../proto/codec.ts";
import { fileKey } from "../../proto/file-targets.ts";
import type {
  Assignment,
  AssignmentKey,
  Network,
  Node,
  SessionInfo,
  Task,
  ToAgent,
} from "../../proto/gen/types.ts";
import { newId } from "../../proto/kit/ids.ts";
import { Queue } from "../../proto/kit/queue.ts";
import { Encoded } from "../../proto/rpc.ts";
import { isFinal } from "../../proto/states.ts";
import type { State } from "../store/types.ts";
import {
  fileAssignment,
  filesOfNode,
  keyOf,
  networksOfNode,
  peerOf,
  taskAssignment,
  tasksFor,
} from "./assign.ts";
import type { Feed, FeedPart } from "./feed.ts";
import type { Changed } from "./history.ts";
import { versionText } from "./versions.ts";

/** An agent further behind is cut off; it comes back and gets everything at once. */
const outgoingMax = 2048;
/** Secrets and configs in one message, unless one alone is larger. */
const filesBytesMax = 1024 * 1024;

const empty: ToAgent = {
  Version: "",
  Complete: false,
  Set: [],
  Remove: [],
  Logs: [],
  CloseLogs: [],
  Tunnels: [],
  Beat: false,
  Packed: [],
};

/** What a session needs of its surroundings to compute what a node should know. */
export interface Surroundings {
  readonly state: State;
  readonly isHeld: (taskId: string) => boolean;
  readonly feedOf: (networkId: string) => Pick<Feed, "all" | "keys" | "missed">;
  /** Sessions that are up to date have been told everything through this index. */
  readonly toldIndex: () => number;
  readonly epoch: number;
}

/** What an agent has already that had a session before, here or with another manager. */
export interface Resumed {
  /** Ids of the networks it knows. */
  readonly networks: ReadonlySet<string>;
  /** Since its version. */
  readonly changed: Changed;
}

interface Difference {
  readonly set: Assignment[];
  readonly remove: AssignmentKey[];
  readonly parts: FeedPart[];
}

export class NodeSession {
  readonly id = newId();
  readonly nodeId: string;
  readonly outgoing: Queue<ToAgent | Encoded>;
  /** Of the last message with assignments. */
  version = 0;
  /** Monotonic ms of the agent's last word. */
  heardAt = Number.POSITIVE_INFINITY;
  /** What its last beat told: node ids whose routers do not answer, ports it cannot publish. null before the first. */
  troubles: readonly string[] | null = null;
  #isBeatAnswered = false;
  readonly #tasks = new Map<string, Task>();
  readonly #networks = new Map<string, Network>();
  /** Secrets and configs it has been sent, by `kind/id`. */
  readonly #files = new Map<string, AssignmentKey>();

  readonly #around: Surroundings;
  readonly #unpacks: boolean;

  /** `unpacks`: its agent takes what is packed. The session ends when the signal aborts. */
  constructor(nodeId: string, unpacks: boolean, around: Surroundings, signal: AbortSignal) {
    this.nodeId = nodeId;
    this.#unpacks = unpacks;
    this.#around = around;
    this.outgoing = new Queue(outgoingMax, signal);
  }

  hasNetwork(networkId: string): boolean {
    return this.#networks.has(networkId);
  }

  networks(): Iterable<string> {
    return this.#networks.keys();
  }

  send(message: Partial<ToAgent>): void {
    this.outgoing.push({ ...empty, ...message });
  }

  /** Every other one: an agent needs to know that we live less often than we that its host does. */
  answerBeat(): void {
    this.#isBeatAnswered = !this.#isBeatAnswered;
    if (this.#isBeatAnswered) this.send({ Beat: true });
  }

  /**
   * The first message: all there is for this node, or, to one that had a session before, what it has missed. Then the secrets and
   * configs that it lacks: `held` are those in its memory.
   */
  begin(info: SessionInfo, resumed: Resumed | null, held: readonly AssignmentKey[]): void {
    for (const key of held) this.#files.set(fileKey(key.Kind, key.ID), key);
    const around = this.#around;
    const { set, remove, parts } = this.#difference(around, resumed);
    const nodes = around.state.table("node");
    for (const node of resumed === null ? nodes.values() : []) this.#addPeer(node, set);
    for (const id of resumed?.changed.nodes ?? []) {
      const node = nodes.get(id);
      if (node === undefined) remove.push(keyOf("peer", id));
      else this.#addPeer(node, set);
    }
    const Complete = resumed === null;
    this.#sendVersion({ Complete, Set: set, Remove: remove, Info: info }, parts);
    this.#sendFiles();
  }

  #addPeer(node: Node, set: Assignment[]): void {
    if (node.ID !== this.nodeId) set.push({ Key: keyOf("peer", node.ID), Peer: peerOf(node) });
  }

  /** Sends what has changed in this node's tasks and networks since the last time; nothing when nothing has. */
  update(): void {
    // Before the tasks that name them, so that these need not wait.
    this.#sendFiles();
    const { set, remove, parts } = this.#difference(this.#around, null);
    if (set.length > 0 || remove.length > 0) this.#sendVersion({ Set: set, Remove: remove }, parts);
  }

  #sendFiles(): void {
    const { state } = this.#around;
    const wanted = filesOfNode(state, this.nodeId);
    const remove = [...this.#files].filter(([name]) => !wanted.has(name));
    for (const [name] of remove) this.#files.delete(name);
    this.sendDelta(
      [],
      remove.map(([, key]) => key),
    );
    let set: Assignment[] = [];
    let bytes = 0;
    for (const [name, key] of wanted) {
      if (this.#files.has(name)) continue;
      this.#files.set(name, key);
      const file = fileAssignment(state, key);
      const size = (file.Secret ?? file.Config)?.Spec?.Data.length ?? 0;
      if (set.length > 0 && bytes + size > filesBytesMax) {
        this.sendDelta(set, []);
        set = [];
        bytes = 0;
      }
      set.push(file);
      bytes += size;
    }
    this.sendDelta(set, []);
  }

  sendDelta(set: readonly Assignment[], remove: readonly AssignmentKey[]): void {
    if (set.length > 0 || remove.length > 0) this.#sendVersion({ Set: set, Remove: remove }, []);
  }

  sendParts(parts: readonly FeedPart[]): void {
    if (parts.length > 0) this.#sendVersion({}, parts);
  }

  #sendVersion(own: Partial<ToAgent>, parts: readonly FeedPart[]): void {
    this.version += 1;
    const { epoch, toldIndex } = this.#around;
    const Version = versionText(this.id, this.version, epoch, toldIndex());
    const message = { ...empty, ...own, Version };
    if (parts.length === 0) this.outgoing.push(message);
    else {
      const bytes = codec("ToAgent").encode(message);
      this.outgoing.push(
        new Encoded([bytes, ...parts.map((part) => (this.#unpacks ? part.packed : part.bytes))]),
      );
    }
  }

  /** The number within a version text of this session; null for another's. */
  parseVersion(text: string): number | null {
    const [id, number] = text.split("-");
    return id === this.id && number !== undefined ? Number(number) : null;
  }

  /** `resumed`: with the first message, what the agent has already. Its own tasks and networks are few and go whole. */
  #difference(around: Surroundings, resumed: Resumed | null): Difference {
    const difference: Difference = { set: [], remove: [], parts: [] };
    this.#differenceOfNetworks(around, difference, resumed);
    this.#differenceOfTasks(around, difference);
    if (resumed !== null) this.#whatIsGone(around, difference, resumed);
    return difference;
  }

  /** What the agent may still have of networks and tasks that are its own no longer. */
  #whatIsGone(around: Surroundings, { remove }: Difference, { networks, changed }: Resumed): void {
    for (const id of networks) {
      if (this.#networks.has(id)) continue;
      const feed = around.feedOf(id);
      const tasks = changed.tasksOfNetwork.get(id) ?? [];
      const services = changed.servicesOfNetwork.get(id) ?? [];
      for (const task of tasks) remove.push(keyOf("endpoint", `${id}/${task}`));
      for (const service of services) remove.push(keyOf("service", `${id}/${service}`));
      remove.push(...feed.keys(), keyOf("network", id));
    }
    for (const id of changed.tasksOfNode.get(this.nodeId) ?? [])
      if (!this.#tasks.has(id)) remove.push(keyOf("task", id));
  }

  #differenceOfNetworks(
    around: Surroundings,
    { set, remove, parts }: Difference,
    resumed: Resumed | null,
  ): void {
    const wanted = networksOfNode(around.state, this.nodeId);
    for (const [id, network] of wanted) {
      const known = this.#networks.get(id);
      if (known === network) continue;
      set.push({ Key: keyOf("network", id), Network: network });
      if (resumed?.networks.has(id) === true) {
        const tasks = resumed.changed.tasksOfNetwork.get(id) ?? [];
        parts.push(
          around.feedOf(id).missed(tasks, resumed.changed.servicesOfNetwork.get(id) ?? []),
        );
      } else if (known === undefined) parts.push(around.feedOf(id).all());
      this.#networks.set(id, network);
    }
    for (const id of [...this.#networks.keys()]) {
      if (wanted.has(id)) continue;
      remove.push(...around.feedOf(id).keys(), keyOf("network", id));
      this.#networks.delete(id);
    }
  }

  #differenceOfTasks(around: Surroundings, { set, remove }: Difference): void {
    const wanted = new Set<string>();
    for (const task of tasksFor(around.state, this.nodeId)) {
      wanted.add(task.ID);
      const known = this.#tasks.get(task.ID);
      if (known === task) continue;
      if (around.isHeld(task.ID)) {
        // Not told to stop yet. One who has not heard of it (the session is new) hears that it goes on running.
        if (known !== undefined) continue;
        const running = { ...task, DesiredState: "running" };
        set.push(taskAssignment(around.state, running));
        this.#tasks.set(task.ID, running);
        continue;
      }
      this.#tasks.set(task.ID, task);
      if (known === undefined || !isOnlyStatus(known, task))
        set.push(taskAssignment(around.state, task));
    }
    for (const id of [...this.#tasks.keys()]) {
      if (wanted.has(id)) continue;
      remove.push(keyOf("task", id));
      this.#tasks.delete(id);
    }
  }
}

/**
 * What the agent itself reported need not be sent back to it, but that it is over: it has to know that after a restart. By value: a
 * task that was written again is decoded anew from the log, and none of its lists is the object it was.
 */
function isOnlyStatus(known: Task, task: Task): boolean {
  const isOver = ({ Status }: Task) => isFinal(Status?.State ?? "");
  return (
    isOver(known) === isOver(task) && isDeepStrictEqual(withoutStatus(known), withoutStatus(task))
  );
}

function withoutStatus(task: Task): object {
  const { DesiredState, SpecVersion, NotBefore, NetworksAttachments, Labels, Ports } = task;
  return { DesiredState, SpecVersion, NotBefore, NetworksAttachments, Labels, Ports };
}
