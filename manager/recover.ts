// When Raft cannot go on by itself: a cluster of one manager from what a survivor's log or a backup holds.

import { readFile } from "node:fs/promises";
import { decodeBackup } from "../proto/backup.ts";
import type { Cluster, InitRequest, Node } from "../proto/gen/types.ts";
import type { NodeIdentity } from "../proto/identity.ts";
import { assertThat } from "../proto/kit/assert.ts";
import { newId } from "../proto/kit/ids.ts";
import type { Log } from "../proto/kit/log.ts";
import type { DataKeys } from "../proto/kit/seal.ts";
import { timestamp } from "../proto/kit/world.ts";
import { banned, withSpec } from "./identity/admit.ts";
import { signNode } from "./identity/ca.ts";
import { clusterOf, hostOf, newNode, rootOf } from "./identity/join.ts";
import { type MemberSettings, raftFolder } from "./member.ts";
import { beginFrom, type Place, replay } from "./raft/recover.ts";
import { openStore } from "./store/store.ts";
import type { Change, State } from "./store/types.ts";
import { encodeBatch, encodeTransaction, featureLevel } from "./store/wire.ts";
import type { EntryResult } from "./store/writer.ts";

export interface RecoverOptions {
  readonly dataRoot: string;
  /** What the log is sealed with. */
  readonly keys: DataKeys | null;
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/**
 * The settings under which this manager goes on alone, with everything its log holds. The caller writes them, which is what makes it
 * so. The other managers become workers: they hear it from this one. Not while the member is open.
 */
export async function refound(
  options: RecoverOptions,
  settings: MemberSettings,
): Promise<MemberSettings> {
  const { dataRoot, log } = options;
  const { clusterId, nodeId, epoch } = settings;
  const store = emptyStore();
  const directory = raftFolder(dataRoot, epoch);
  const last = await replay(
    directory,
    { clusterId, nodeId, epoch },
    store.machine,
    options.keys,
    log,
  );
  const next = { ...settings, epoch: epoch + 1 };
  await begin(options, next, last, store, (state) => aloneChanges(state, next));
  log.warn({ epoch: next.epoch, index: last.index }, "a new cluster is forced from this manager");
  return next;
}

export interface Restored {
  readonly settings: MemberSettings;
  readonly identity: NodeIdentity;
}

/**
 * As `refound`, from a backup, with this machine as a new node; what it was before in that cluster, if anything, is removed. Throws
 * `invalid` for a backup that can not be used.
 */
export async function restore(
  options: RecoverOptions,
  path: string,
  backupKey: string,
  init: InitRequest,
  key: string,
  listenAddr: string,
): Promise<Restored> {
  const { header, pieces } = await decodeBackup(await readFile(path), backupKey);
  const store = emptyStore();
  store.machine.restore(header.index, pieces);
  const { state } = store.store;
  const before = [...state.table("node").values()].filter((node) => isThisMachine(node, init));
  const cluster = before.reduce(
    (left, node) => bannedFrom(left, node, options.now),
    clusterOf(state),
  );
  const nodeId = newId();
  const root = rootOf(cluster);
  const clusterId = cluster.ID;
  const subject = { nodeId, role: "manager", clusterId } as const;
  const certificate = await signNode(root, init.CSR, subject, options.now);
  const settings: MemberSettings = {
    clusterId,
    nodeId,
    listenAddr,
    advertiseAddr: init.AdvertiseAddr,
    epoch: header.epoch + 1,
  };
  const joining = { nodeId, role: "manager", request: init, callerHost: "" } as const;
  const { changes, index } = newNode(cluster, joining);
  const gone = before.map(({ ID, Version }): Change => {
    return { op: "delete", kind: "node", id: ID, base: Version?.Index ?? 0 };
  });
  await begin(options, settings, header, store, (known) => [
    ...aloneChanges(known, settings).filter((change) => !before.some(({ ID }) => isOf(change, ID))),
    ...gone,
    ...changes.map((change) => withManager(change, settings)),
  ]);
  options.log.warn({ cluster: clusterId, index: header.index }, "a cluster is restored");
  const managers = [settings.advertiseAddr];
  const rootCA = root.certificate;
  return {
    settings,
    identity: { nodeId, clusterId, role: "manager", index, managers, certificate, rootCA, key },
  };
}

/** No two machines have one manager's address; one name at one address is one machine as well, installed anew. */
function isThisMachine(node: Node, { AdvertiseAddr, Description }: InitRequest): boolean {
  if (node.ManagerStatus?.Addr === AdvertiseAddr) return true;
  const hostname = Description?.Hostname ?? "";
  return (
    hostname !== "" &&
    node.Description?.Hostname === hostname &&
    node.Status?.Addr === hostOf(AdvertiseAddr)
  );
}

function bannedFrom(cluster: Cluster, node: Node, now: number): Cluster {
  const [change] = banned(cluster, node, now);
  return change?.op === "put" && change.kind === "cluster" ? change.object : cluster;
}

function isOf(change: Change, nodeId: string): boolean {
  return change.op === "put" && change.kind === "node" && change.object.ID === nodeId;
}

type EmptyStore = ReturnType<typeof openStore>;

function emptyStore(): EmptyStore {
  const refuse = () => Promise.reject(new Error("nothing is written here"));
  return openStore({ propose: refuse, now: () => 0, signal: new AbortController().signal });
}

/** The changes go on top, as an entry of their own, so that the log begins with a state in which they hold. */
async function begin(
  { dataRoot, keys, now }: RecoverOptions,
  { clusterId, nodeId, epoch }: MemberSettings,
  last: Place,
  { store, machine }: EmptyStore,
  changes: (state: State) => readonly Change[],
): Promise<void> {
  const place: Place = { index: last.index + 1, term: Math.max(1, last.term) };
  const level = store.state.cluster?.FeatureLevel;
  const entry = encodeTransaction(changes(store.state), timestamp(now), level);
  const { outcomes } = machine.apply(place.index, encodeBatch([entry])) as EntryResult;
  for (const outcome of outcomes)
    assertThat(outcome.kind === "applied", "what makes this manager the only one fits the state");
  const identity = { clusterId, nodeId, epoch };
  await beginFrom(raftFolder(dataRoot, epoch), identity, place, machine.snapshot(), keys);
}

/** This one is the only manager; the others are workers until somebody promotes them. */
function aloneChanges(state: State, { nodeId, advertiseAddr }: MemberSettings): Change[] {
  const changes: Change[] = [];
  for (const node of state.table("node").values()) {
    const { ManagerStatus, ...rest } = node;
    if (node.ID === nodeId)
      changes.push({
        op: "put",
        kind: "node",
        object: { ...node, ManagerStatus: leading(advertiseAddr) },
      });
    else if (ManagerStatus !== undefined || node.Spec?.Role === "manager")
      changes.push({ op: "put", kind: "node", object: asWorker(rest) });
  }
  return changes;
}

function asWorker(node: Node): Node {
  return node.Spec === undefined ? node : withSpec(node, { ...node.Spec, Role: "worker" });
}

function leading(Addr: string) {
  return { Leader: true, Reachability: "reachable", Addr, FeatureLevel: featureLevel };
}

function withManager(change: Change, { advertiseAddr }: MemberSettings): Change {
  if (change.op === "delete" || change.kind !== "node") return change;
  return { ...change, object: { ...change.object, ManagerStatus: leading(advertiseAddr) } };
}
