// What the managers want of this node: messages of the session folded into one immutable value, and its form on disk.

import { codec } from "../../proto/codec.ts";
import type {
  Assignment,
  AssignmentKey,
  Endpoint,
  Network,
  Peer,
  SessionInfo,
  Task,
  ToAgent,
  VirtualService,
} from "../../proto/gen/types.ts";
import type { Wanted } from "./types.ts";

/** The next `Wanted` after a message that carries a version; kinds this build does not know are passed over. */
export function fold(before: Wanted | null, message: ToAgent): Wanted {
  const base = message.Complete || before === null ? nothing : before;
  const tables = {
    task: new Map(base.tasks),
    network: new Map(base.networks),
    peer: new Map(base.peers),
    service: new Map(base.services),
    endpoint: new Map(base.endpoints),
  };
  for (const key of message.Remove) if (isKind(key.Kind, tables)) tables[key.Kind].delete(key.ID);
  for (const assignment of message.Set) put(tables, assignment);
  return {
    version: message.Version,
    info: message.Info ?? before?.info ?? noInfo,
    tasks: tables.task,
    networks: tables.network,
    peers: tables.peer,
    services: tables.service,
    endpoints: tables.endpoint,
    confirmed: true,
  };
}

/** What a message says of secrets and configs, and the message without it: no disk ever has these. */
export function splitFiles(message: ToAgent): {
  readonly files: Pick<ToAgent, "Set" | "Remove">;
  readonly rest: ToAgent;
} {
  const isFile = (kind: string) => kind === "secret" || kind === "config";
  const isFileSet = ({ Key, Secret, Config }: Assignment) =>
    isFile(Key?.Kind ?? "") || Secret !== undefined || Config !== undefined;
  return {
    files: {
      Set: message.Set.filter(isFileSet),
      Remove: message.Remove.filter(({ Kind }) => isFile(Kind)),
    },
    rest: {
      ...message,
      Set: message.Set.filter((assignment) => !isFileSet(assignment)),
      Remove: message.Remove.filter(({ Kind }) => !isFile(Kind)),
    },
  };
}

interface Tables {
  readonly task: Map<string, Task>;
  readonly network: Map<string, Network>;
  readonly peer: Map<string, Peer>;
  readonly service: Map<string, VirtualService>;
  readonly endpoint: Map<string, Endpoint>;
}

function isKind(kind: string, tables: Tables): kind is keyof Tables {
  return Object.hasOwn(tables, kind);
}

function put(tables: Tables, assignment: Assignment): void {
  const id = assignment.Key?.ID ?? "";
  if (assignment.Task !== undefined) tables.task.set(id, assignment.Task);
  if (assignment.Network !== undefined) tables.network.set(id, assignment.Network);
  if (assignment.Peer !== undefined) tables.peer.set(id, assignment.Peer);
  if (assignment.Service !== undefined) tables.service.set(id, assignment.Service);
  if (assignment.Endpoint !== undefined) tables.endpoint.set(id, assignment.Endpoint);
}

const noInfo: SessionInfo = {
  NodeID: "",
  Index: 0,
  ClusterID: "",
  HeartbeatPeriod: 0,
  Managers: [],
  Role: "worker",
  DataPathPort: 0,
  Availability: "active",
  RootCA: "",
  Measured: [],
};

const nothing: Wanted = {
  version: "",
  info: noInfo,
  tasks: new Map(),
  networks: new Map(),
  peers: new Map(),
  services: new Map(),
  endpoints: new Map(),
  confirmed: false,
};

/** All of it as one complete message, with the boot it belongs to. */
export function toBytes(wanted: Wanted, bootId: string): Buffer {
  const key = (Kind: string, ID: string): AssignmentKey => ({ Kind, ID });
  const set: Assignment[] = [
    ...[...wanted.tasks].map(([id, Task]) => ({ Key: key("task", id), Task })),
    ...[...wanted.networks].map(([id, Network]) => ({ Key: key("network", id), Network })),
    ...[...wanted.peers].map(([id, Peer]) => ({ Key: key("peer", id), Peer })),
    ...[...wanted.services].map(([id, Service]) => ({ Key: key("service", id), Service })),
    ...[...wanted.endpoints].map(([id, Endpoint]) => ({ Key: key("endpoint", id), Endpoint })),
  ];
  const All: ToAgent = {
    Version: wanted.version,
    Complete: true,
    Set: set,
    Remove: [],
    Info: wanted.info,
    Logs: [],
    CloseLogs: [],
    Tunnels: [],
    Beat: false,
    Packed: [],
  };
  return codec("SavedAssignments").encode({ All, BootID: bootId });
}

export function deltaToBytes(message: ToAgent): Buffer {
  return codec("SavedAssignments").encode({ All: message, BootID: "" });
}

/** A complete message and what followed it. Not confirmed: the caller knows how old it is. Throws `invalid` for damage. */
export function foldRecords(records: Iterable<Uint8Array>): {
  readonly wanted: Wanted | null;
  readonly bootId: string;
} {
  let wanted: Wanted | null = null;
  let bootId = "";
  for (const bytes of records) {
    const saved = codec("SavedAssignments").decode(bytes);
    if (saved.All === undefined) continue;
    wanted = fold(wanted, saved.All);
    bootId = saved.BootID || bootId;
  }
  return { wanted: wanted === null ? null : { ...wanted, confirmed: false }, bootId };
}
