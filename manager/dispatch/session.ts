// One agent's session as the manager sees it: what it has been sent, and under which version.

import { isDeepStrictEqual } from "node:util";
import { codec } from "../../proto/codec.ts";
import { fileKey } from "../../proto/file-targets.ts";
import type {
  Assignment,
  AssignmentKey,
  Network,
  SessionInfo,
  Task,
  ToAgent,
} from "../../proto/gen/types.ts";
import { newId } from "../../proto/kit/ids.ts";
import { plain } from "../../proto/packed.ts";
import { Encoded } from "../../proto/rpc.ts";
import { isFinal } from "../../proto/states.ts";
import type { State } from "../store/types.ts";
import {
  fileAssignment,
  filesOfNode,
  keyOf,
  networksOfNode,
  taskAssignment,
  tasksFor,
} from "./assign.ts";
import type { Feed } from "./feed.ts";
import type { Changed } from "./history.ts";
import type { Journal, Part } from "./journal.ts";
import { Outgoing } from "./outgoing.ts";
import type { Turns } from "./turns.ts";
import { versionText } from "./versions.ts";

/** Secrets and configs in one message, unless one alone is larger. */
const filesBytesMax = 1024 * 1024;
/** Smaller messages fill no memory, however many sessions there are. */
const largeBytesMin = 32 * 1024;

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
  readonly feedOf: (
    networkId: string,
  ) => Pick<Feed, "after" | "from" | "keys" | "missed" | "positionAt" | "prepare">;
  /** All nodes. */
  readonly peers: () => Pick<Journal, "after" | "position" | "positionAt" | "prepare">;
  /** Sessions that are up to date have been told everything through this index. */
  readonly toldIndex: () => number;
  readonly epoch: number;
  readonly turns: Turns;
}

/** What an agent has already that had a session before, here or with another manager. */
export interface Resume {
  /** Ids of the networks it knows. */
  readonly networks: ReadonlySet<string>;
  /** Since its version, until now; null: that is not known any more, and it gets everything. */
  readonly changed: () => Changed | null;
}

interface Beginning {
  readonly info: () => SessionInfo;
  readonly resume: Resume | null;
}

/** As of one moment. */
interface Resumed {
  readonly networks: ReadonlySet<string>;
  readonly changed: Changed;
}

interface Known {
  readonly network: Network;
  /** Through where its names and addresses have been told. */
  readonly told: number;
}

interface Difference {
  readonly set: Assignment[];
  readonly remove: AssignmentKey[];
  readonly parts: Part[];
}

export class NodeSession {
  readonly id = newId();
  readonly nodeId: string;
  readonly outgoing: Outgoing<ToAgent | Encoded>;
  /** Of the last message with assignments. */
  version = 0;
  /** Monotonic ms of the agent's last word. */
  heardAt = Number.POSITIVE_INFINITY;
  /** What its last beat told: node ids whose routers do not answer, ports it cannot publish. null before the first. */
  troubles: readonly string[] | null = null;
  #isBeatAnswered = false;
  /** Until the first message has been composed. */
  #beginning: Beginning | null = null;
  readonly #tasks = new Map<string, Task>();
  readonly #networks = new Map<string, Known>();
  /** Through where it has been told of its peers. */
  #peersTold = 0;
  /** Tasks that it has and no manager knows. */
  #unknown: AssignmentKey[] = [];
  /** Secrets and configs it has been sent, by `kind/id`. */
  readonly #files = new Map<string, AssignmentKey>();

  readonly #around: Surroundings;
  readonly #unpacks: boolean;

  /** `unpacks`: its agent takes what is packed. The session ends when the signal aborts. */
  constructor(nodeId: string, unpacks: boolean, around: Surroundings, signal: AbortSignal) {
    this.nodeId = nodeId;
    this.#unpacks = unpacks;
    this.#around = around;
    const { turns } = around;
    const compose = () => this.compose();
    const sizeOf = (message: ToAgent | Encoded) => {
      const bytes = message instanceof Encoded ? message.byteLength : 0;
      return bytes < largeBytesMin ? 0 : bytes;
    };
    this.outgoing = new Outgoing({ compose, turns, sizeOf, signal });
  }

  /** Or had it in a session before. */
  hasNetwork(networkId: string): boolean {
    return (
      this.#networks.has(networkId) || this.#beginning?.resume?.networks.has(networkId) === true
    );
  }

  networks(): Iterable<string> {
    return this.#networks.keys();
  }

  send(message: Partial<ToAgent>): void {
    this.outgoing.say({ ...empty, ...message });
  }

  /** Every other one: an agent needs to know that we live less often than we that its host does. */
  answerBeat(): void {
    this.#isBeatAnswered = !this.#isBeatAnswered;
    if (this.#isBeatAnswered) this.outgoing.beat({ ...empty, Beat: true });
  }

  /**
   * The first message: all there is for this node, or, to one that had a session before, what it has missed. Then the secrets and
   * configs that it lacks: `held` are those in its memory.
   */
  begin(info: () => SessionInfo, resume: Resume | null, held: readonly AssignmentKey[]): void {
    for (const key of held) this.#files.set(fileKey(key.Kind, key.ID), key);
    this.#beginning = { info, resume };
    this.outgoing.stale();
  }

  /** What has changed in this node's tasks and networks, and in names and peers, will be sent; nothing when nothing has. */
  update(): void {
    this.outgoing.stale();
  }

  /** It is to forget these tasks. */
  forget(keys: readonly AssignmentKey[]): void {
    if (keys.length === 0) return;
    this.#unknown.push(...keys);
    this.outgoing.stale();
  }

  /** The version with which all has been told that is known of these networks. */
  versionWith(networkIds: readonly string[]): number {
    if (this.#beginning !== null) return this.version + 1;
    const isBehind = networkIds.some((id) => {
      const told = this.#networks.get(id)?.told;
      return told !== undefined && told < this.#around.feedOf(id).positionAt();
    });
    return isBehind ? this.version + 1 : this.version;
  }

  /**
   * Messages with all that this node has not been told yet. The first has what has changed in names and addresses. null: it is not
   * encoded yet; it has been gone on with, and is to be asked for again.
   */
  compose(): readonly (ToAgent | Encoded)[] | null {
    const beginning = this.#beginning;
    // When it said Hello may be long ago.
    const resumed = resumedNow(beginning?.resume ?? null);
    if (this.#isPreparing(resumed)) return null;
    this.#beginning = null;
    const names = this.#differenceOfNames(resumed);
    const files = this.#differenceOfFiles();
    const tasks: Difference = { set: [], remove: this.#unknown, parts: [] };
    this.#unknown = [];
    this.#differenceOfTasks(this.#around, tasks);
    if (beginning !== null) {
      if (resumed !== null) this.#tasksGone(resumed, tasks);
      const Info = beginning.info();
      const first = { ...together(names, tasks), Complete: resumed === null, Info };
      return [this.#message(first), ...files.map((one) => this.#message(one))];
    }
    // Files before the tasks that name them, so that these need not wait.
    const messages = files.length > 0 ? [names, ...files, tasks] : [together(names, tasks)];
    return messages.filter(isAny).map((one) => this.#message(one));
  }

  /** Encodes a piece of what it will be told, if there is one to encode. */
  #isPreparing(resumed: Resumed | null): boolean {
    const { state, feedOf, peers } = this.#around;
    const peersTold =
      resumed === null ? this.#peersTold : peers().positionAt(resumed.changed.after);
    if (peers().prepare(peersTold)) return true;
    for (const id of networksOfNode(state, this.nodeId).keys()) {
      const feed = feedOf(id);
      const told = this.#networks.get(id)?.told ?? toldOf(feed, id, resumed);
      if (told !== null && feed.prepare(told)) return true;
    }
    return false;
  }

  #message({ set, remove, parts, ...others }: Difference & Partial<ToAgent>): ToAgent | Encoded {
    this.version += 1;
    const { epoch, toldIndex } = this.#around;
    const Version = versionText(this.id, this.version, epoch, toldIndex());
    const message = { ...empty, ...others, Set: set, Remove: remove, Version };
    if (parts.length === 0) return message;
    const bytes = codec("ToAgent").encode(message);
    return new Encoded([bytes, ...(this.#unpacks ? parts : parts.map(plain))]);
  }

  /** The number within a version text of this session; null for another's. */
  parseVersion(text: string): number | null {
    const [id, number] = text.split("-");
    return id === this.id && number !== undefined ? Number(number) : null;
  }

  /** In pieces. */
  #differenceOfFiles(): readonly Difference[] {
    const { state } = this.#around;
    const wanted = filesOfNode(state, this.nodeId);
    const gone = [...this.#files].filter(([name]) => !wanted.has(name));
    for (const [name] of gone) this.#files.delete(name);
    const pieces: Difference[] = [{ set: [], remove: gone.map(([, key]) => key), parts: [] }];
    let bytes = 0;
    for (const [name, key] of wanted) {
      if (this.#files.has(name)) continue;
      this.#files.set(name, key);
      const file = fileAssignment(state, key);
      const size = (file.Secret ?? file.Config)?.Spec?.Data.length ?? 0;
      if (bytes > 0 && bytes + size > filesBytesMax) {
        pieces.push({ set: [], remove: [], parts: [] });
        bytes = 0;
      }
      pieces.at(-1)?.set.push(file);
      bytes += size;
    }
    return pieces.filter(isAny);
  }

  /** Networks, names and addresses, and peers. `resumed`: with the first message, what the agent has already. */
  #differenceOfNames(resumed: Resumed | null): Difference {
    const around = this.#around;
    const difference: Difference = { set: [], remove: [], parts: [] };
    const { set, remove, parts } = difference;
    const peers = around.peers();
    if (resumed !== null) this.#peersTold = peers.positionAt(resumed.changed.after);
    // Most are told more often of names than of peers.
    if (this.#peersTold < peers.position)
      parts.push(...peers.after(this.#peersTold, keyOf("peer", this.nodeId)));
    this.#peersTold = peers.position;
    const wanted = networksOfNode(around.state, this.nodeId);
    for (const [id, { told }] of [...this.#networks]) {
      if (wanted.has(id)) continue;
      remove.push(...around.feedOf(id).keys(told), keyOf("network", id));
      this.#networks.delete(id);
    }
    for (const [id, network] of wanted) {
      const known = this.#networks.get(id);
      const feed = around.feedOf(id);
      if (known?.network !== network) set.push({ Key: keyOf("network", id), Network: network });
      const told = known?.told ?? toldOf(feed, id, resumed);
      if (told === null && resumed !== null) parts.push(...missedOf(feed, id, resumed.changed));
      else if (told === null || told < feed.positionAt()) parts.push(...feed.after(told ?? 0));
      this.#networks.set(id, { network, told: feed.positionAt() });
    }
    for (const id of resumed?.networks ?? [])
      if (!wanted.has(id)) remove.push(...this.#networkGone(id, resumed?.changed));
    return difference;
  }

  /** What the agent may still have of a network that is its own no longer. */
  #networkGone(id: string, changed: Changed | undefined): readonly AssignmentKey[] {
    const tasks = [...(changed?.tasksOfNetwork.get(id) ?? [])];
    const services = [...(changed?.servicesOfNetwork.get(id) ?? [])];
    return [
      ...tasks.map((task) => keyOf("endpoint", `${id}/${task}`)),
      ...services.map((service) => keyOf("service", `${id}/${service}`)),
      ...this.#around.feedOf(id).keys(Number.POSITIVE_INFINITY),
      keyOf("network", id),
    ];
  }

  /** What the agent may still have of tasks that are its own no longer. */
  #tasksGone({ changed }: Resumed, { remove }: Difference): void {
    for (const id of changed.tasksOfNode.get(this.nodeId) ?? [])
      if (!this.#tasks.has(id)) remove.push(keyOf("task", id));
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

function isAny({ set, remove, parts }: Difference): boolean {
  return set.length + remove.length + parts.length > 0;
}

function together(a: Difference, b: Difference): Difference {
  return {
    set: [...a.set, ...b.set],
    remove: [...a.remove, ...b.remove],
    parts: [...a.parts, ...b.parts],
  };
}

function resumedNow(resume: Resume | null): Resumed | null {
  const changed = resume?.changed() ?? null;
  return resume === null || changed === null ? null : { networks: resume.networks, changed };
}

/** Through where the agent knows this network from before, 0 for not at all; null: that can not be told by positions. */
function toldOf(
  feed: Pick<Feed, "from" | "positionAt">,
  id: string,
  resumed: Resumed | null,
): number | null {
  if (resumed?.networks.has(id) !== true) return 0;
  const { after } = resumed.changed;
  return after < feed.from ? null : feed.positionAt(after);
}

function missedOf(
  feed: Pick<Feed, "missed">,
  id: string,
  { tasksOfNetwork, servicesOfNetwork }: Changed,
): readonly Part[] {
  return feed.missed(tasksOfNetwork.get(id) ?? [], servicesOfNetwork.get(id) ?? []);
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
