import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createKeyAndCsr } from "../../../agent/session/identity.ts";
import { decodeBackup } from "../../../proto/backup.ts";
import { codec } from "../../../proto/codec.ts";
import { asSwarmError, SwarmError } from "../../../proto/kit/errors.ts";
import { staleKey } from "../../../proto/rpc.ts";
import { type CallOptions, Client } from "../../../proto/rpc-client.ts";
import { toManager } from "../../../proto/tls.ts";
import { joined } from "./nodes.ts";
import { configIn, freePort, init, joinAsManager, RunningManager } from "./running.ts";

const waitMsMax = 30_000;
const noFilters = { Filters: {}, Status: false };

class Trio implements AsyncDisposable {
  readonly folder: string;
  readonly managers = new Map<string, RunningManager>();

  constructor(folder: string) {
    this.folder = folder;
  }

  async start(name: string): Promise<RunningManager> {
    const manager = new RunningManager(configIn(join(this.folder, name)));
    this.managers.set(name, manager);
    await manager.ready();
    return manager;
  }

  /** As SIGTERM does. */
  async stop(name: string): Promise<void> {
    const manager = this.managers.get(name);
    this.managers.delete(name);
    await manager?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [...this.managers.keys()]) await this.stop(name).catch(() => {});
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function eventually<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const until = Date.now() + waitMsMax;
  let last: unknown = "nothing";
  while (Date.now() < until) {
    try {
      const found = await look();
      if (found !== undefined) return found;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`did not happen: ${what} (${String(last)})`);
}

/** Name of the node → what its node object says of it as a manager: "leader", its reachability, or "worker". */
async function roles(control: Client<"Control">): Promise<Readonly<Record<string, string>>> {
  const { Items } = await control.unary("ListNodes", noFilters);
  return Object.fromEntries(
    Items.map(({ Description, ManagerStatus }) => [
      Description?.Hostname ?? "",
      ManagerStatus === undefined
        ? "worker"
        : ManagerStatus.Leader
          ? "leader"
          : ManagerStatus.Reachability,
    ]),
  );
}

async function untilRoles(
  control: Client<"Control">,
  wanted: Readonly<Record<string, string>>,
): Promise<void> {
  const what = `the roles ${JSON.stringify(wanted)}`;
  await eventually(what, async () =>
    JSON.stringify(Object.entries(await roles(control)).sort()) ===
    JSON.stringify(Object.entries(wanted).sort())
      ? true
      : undefined,
  );
}

async function createNetwork(control: Client<"Control">, Name: string): Promise<void> {
  const Spec = codec("NetworkSpec").parse({ Name, Driver: "overlay" });
  await control.unary("CreateNetwork", { Spec });
}

async function networks(
  control: Client<"Control">,
  options: CallOptions = {},
): Promise<readonly string[]> {
  const { Items } = await control.unary("ListNetworks", noFilters, options);
  return Items.map(({ Spec }) => Spec?.Name ?? "").sort();
}

async function setRole(control: Client<"Control">, ID: string, Role: string): Promise<void> {
  const node = await control.unary("GetNode", { ID, InsertDefaults: false });
  const Spec = { Name: "", Labels: {}, Availability: "active", ...node.Spec, Role };
  await control.unary("UpdateNode", { ID, Version: node.Version?.Index ?? 0, Spec });
}

/** One message, and then none, without an end. */
async function* only<T>(message: T): AsyncGenerator<T> {
  yield message;
  await new Promise(() => {});
}

async function trio(): Promise<Trio> {
  const all = new Trio(await mkdtemp(join(tmpdir(), "tsswarm-test-")));
  const first = await all.start("h1");
  const { Managers } = await init(first);
  const { JoinTokens } = await first.control.unary("GetCluster", {});
  for (const name of ["h2", "h3"])
    await joinAsManager(await all.start(name), name, Managers[0] ?? "", JoinTokens?.Manager ?? "");
  await untilRoles(first.control, { h1: "leader", h2: "reachable", h3: "reachable" });
  return all;
}

test("three managers: each takes writes and sees those of the others; one goes, comes back, is demoted and removed", async () => {
  await using all = await trio();
  const control = (name: string) => {
    const manager = all.managers.get(name);
    assert.ok(manager !== undefined);
    return manager.control;
  };
  for (const name of ["h1", "h2", "h3"]) {
    await createNetwork(control(name), `from-${name}`);
    for (const other of ["h1", "h2", "h3"])
      assert.ok((await networks(control(other))).includes(`from-${name}`), `${name} → ${other}`);
  }

  // A follower lends its word to no worker.
  const { JoinTokens } = await control("h1").unary("GetCluster", {});
  const { Items } = await control("h1").unary("ListNodes", noFilters);
  for (const { ManagerStatus } of Items) {
    const address = ManagerStatus?.Addr ?? "";
    const worker = await joined({
      directory: join(all.folder, "worker"),
      remotes: [address],
      token: JoinTokens?.Worker ?? "",
    });
    const client = new Client("Managers", address, toManager(worker, worker.clusterId));
    const enter = { Addr: "127.0.0.1:1", FeatureLevel: 1 };
    await assert.rejects(client.unary("Enter", enter), { code: "denied" });
    await assert.rejects(client.unary("Withdraw", {}), { code: "denied" });
    client.close();
    // In session with this manager; removed by the leader.
    const agent = new Client("Dispatch", address, toManager(worker, worker.clusterId));
    const hello = { Hello: { BootID: "b", DataPathAddr: "127.0.0.1" } };
    const messages = await eventually("it is in session", async () => {
      const session = agent.duplex("Session", only(codec("FromAgent").parse(hello)));
      const iterator = session[Symbol.asyncIterator]();
      // The manager that has just joined says so, and is asked again.
      const first = await iterator.next().catch((error: unknown) => asSwarmError(error));
      if (!(first instanceof SwarmError)) return iterator;
      if (first.code !== "no_leader") throw first;
      return undefined;
    });
    await control("h1").unary("RemoveNode", { ID: worker.nodeId, Force: true });
    await assert.rejects(
      async () => {
        while ((await messages.next()).done !== true);
      },
      { code: "denied", message: /was removed from the swarm/ },
    );
    for (const { ManagerStatus: other } of Items) {
      const credentials = toManager(worker, worker.clusterId);
      const again = new Client("Dispatch", other?.Addr ?? "", credentials);
      const message = /is not part of this swarm/;
      await assert.rejects(again.unary("Detach", { TaskIDs: [] }), { code: "denied", message });
      again.close();
    }
    agent.close();
  }

  await all.stop("h1");
  await createNetwork(control("h2"), "without-h1");
  assert.ok((await networks(control("h3"))).includes("without-h1"));
  const leader = await eventually(
    "another leader",
    async () =>
      Object.entries(await roles(control("h2"))).find(
        ([name, role]) => role === "leader" && name !== "h1",
      )?.[0],
  );
  const other = leader === "h2" ? "h3" : "h2";
  await untilRoles(control("h2"), { h1: "unreachable", [leader]: "leader", [other]: "reachable" });
  await assert.rejects(setRole(control("h2"), other, "worker"), {
    code: "precondition",
    message: /loss of quorum.*Of the 2 managers left 1 can be reached and 2 are needed/,
  });

  const back = await all.start("h1");
  await eventually("it reads what it missed", async () =>
    (await networks(back.control)).includes("without-h1") ? true : undefined,
  );
  await untilRoles(back.control, { h1: "reachable", [leader]: "leader", [other]: "reachable" });

  // The leader itself is demoted: another takes over and takes it out of Raft.
  await setRole(control("h1"), leader, "worker");
  await eventually("the leader is a worker", async () => {
    const now = await roles(control("h1"));
    return now[leader] === "worker" && Object.values(now).includes("leader") ? true : undefined;
  });
  await createNetwork(control("h1"), "without-the-leader");
  const removal = { ID: leader, Force: false };
  await assert.rejects(control("h1").unary("RemoveNode", { ...removal, ID: "h1" }), {
    code: "precondition",
    message: /must be demoted to worker before removal/,
  });
  await assert.rejects(
    createNetwork(control(leader), "by-a-worker"),
    (error) =>
      error instanceof SwarmError &&
      ["denied", "no_leader", "unknown_outcome"].includes(error.code),
  );
  await control("h1").unary("RemoveNode", { ...removal, Force: true });
  assert.equal((await control("h1").unary("ListNodes", noFilters)).Items.length, 2);
});

test("a majority is lost: reads say that they are stale, writes fail soon; a new cluster is forced, and one is restored", async () => {
  await using all = await trio();
  const one = all.managers.get("h1")?.control;
  assert.ok(one !== undefined);
  await createNetwork(one, "before");
  await all.stop("h3");
  await all.stop("h2");

  // Until it knows that it leads nobody, what becomes of a write it takes is for the others to say.
  await eventually("nobody leads", async () => {
    const status = await all.managers.get("h1")?.local.unary("Status", {});
    return status?.HasLeader === false ? true : undefined;
  });
  const trailers: string[] = [];
  const heard = (trailer: Readonly<Record<string, string>>) =>
    trailers.push(trailer[staleKey] ?? "");
  const started = Date.now();
  await assert.rejects(createNetwork(one, "nobody-agrees"), { code: "no_leader" });
  assert.ok(Date.now() - started < 10_000);
  assert.deepEqual(await networks(one, { heard }), ["before", "ingress"]);
  assert.match(trailers.at(-1) ?? "", /no leader/);
  assert.deepEqual(await roles(one), { h1: "unknown", h2: "unknown", h3: "unknown" });

  const force = { CSR: "", AdvertiseAddr: "", ForceNewCluster: true };
  const survivor = all.managers.get("h1");
  await survivor?.local.unary("Init", codec("InitRequest").parse(force), { timeoutMs: 20_000 });
  await untilRoles(one, { h1: "leader", h2: "worker", h3: "worker" });
  assert.deepEqual(await networks(one), ["before", "ingress"]);
  await createNetwork(one, "after");

  const parts: Uint8Array[] = [];
  const Key = "the key of this test";
  for await (const { Data } of one.download("Backup", { Key })) parts.push(Data);
  const bytes = Buffer.concat(parts);
  const { header } = await decodeBackup(bytes, Key);
  assert.ok(!bytes.includes("before"));
  assert.equal(header.epoch, 2);
  assert.equal(header.isStale, false);
  await createNetwork(one, "after-the-backup");
  const { Items } = await one.unary("ListNodes", noFilters);
  const oneAddress = Items.find(({ ManagerStatus }) => ManagerStatus?.Leader)?.ManagerStatus?.Addr;
  assert.ok(oneAddress !== undefined);
  await all.stop("h1");

  const restored = await all.start("h4");
  const CSR = await createKeyAndCsr(join(restored.config["data-root"], "identity"));
  const path = join(all.folder, "backup");
  await writeFile(path, bytes);
  const address = `127.0.0.1:${await freePort()}`;
  const Init = codec("InitRequest").parse({
    CSR,
    Description: { Hostname: "h4" },
    ListenAddr: address,
    AdvertiseAddr: address,
  });
  const wrong = { Path: path, Init, Key: "another key than that" };
  await assert.rejects(restored.local.unary("Restore", wrong, { timeoutMs: 20_000 }), {
    code: "denied",
  });
  const right = { Path: path, Init, Key };
  const made = await restored.local.unary("Restore", right, { timeoutMs: 20_000 });
  assert.equal(made.ClusterID, header.clusterId);
  await untilRoles(restored.control, { h1: "worker", h2: "worker", h3: "worker", h4: "leader" });
  assert.deepEqual(await networks(restored.control), ["after", "before", "ingress"]);
  await createNetwork(restored.control, "goes-on");

  await all.stop("h4");
  const again = await all.start("h4");
  assert.deepEqual(await networks(again.control), ["after", "before", "goes-on", "ingress"]);

  // The machine that had been h1's, installed anew under another name: what it was before is gone.
  await all.stop("h4");
  const anew = await all.start("h5");
  const own = codec("InitRequest").parse({
    CSR: await createKeyAndCsr(join(anew.config["data-root"], "identity")),
    Description: { Hostname: "h5" },
    ListenAddr: oneAddress,
    AdvertiseAddr: oneAddress,
  });
  await anew.local.unary("Restore", { Path: path, Init: own, Key }, { timeoutMs: 20_000 });
  await untilRoles(anew.control, { h2: "worker", h3: "worker", h5: "leader" });
});
