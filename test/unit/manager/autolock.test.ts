import assert from "node:assert/strict";
import { readdir, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { heldBy } from "../../../manager/lock.ts";
import { codec } from "../../../proto/codec.ts";
import { readIdentity } from "../../../proto/identity.ts";
import { Keyring } from "../../../proto/keyring.ts";
import { KeeperClient } from "../../../proto/kit/keeper-client.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { configIn, inFolder, init, joinAsManager, keeperFor, RunningManager } from "./running.ts";
import { until } from "./small-cluster.ts";

const waitMsMax = 60_000;
const locked = { code: "not_manager", message: /needs to be unlocked/ };

async function spec(manager: RunningManager, isAutolocked: boolean, rotate = false): Promise<void> {
  const cluster = await manager.control.unary("GetCluster", {});
  await manager.control.unary("UpdateCluster", {
    Version: cluster.Version?.Index ?? 0,
    Spec: codec("ClusterSpec").parse({
      ...cluster.Spec,
      EncryptionConfig: { AutoLockManagers: isAutolocked },
    }),
    RotateWorkerToken: false,
    RotateManagerToken: false,
    RotateManagerUnlockKey: rotate,
  });
}

async function unlockKey(manager: RunningManager): Promise<string> {
  return (await manager.control.unary("GetUnlockKey", {})).UnlockKey;
}

async function filesWith(folder: string, text: string): Promise<string[]> {
  const all = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = all.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name));
  const found = await Promise.all(files.map(async (path) => (await readFile(path)).includes(text)));
  return files.filter((_, i) => found[i]);
}

async function createSecretNetwork(manager: RunningManager): Promise<void> {
  const Spec = codec("NetworkSpec").parse({
    Name: "sealed-net",
    Driver: "overlay",
    Labels: { who: "sealed-label" },
  });
  await manager.control.unary("CreateNetwork", { Spec });
}

test("a manager's files say nothing of its objects, and its TLS key is sealed, mode 0600", async () => {
  await inFolder(async (config) => {
    await using manager = new RunningManager(config);
    await manager.ready();
    await init(manager);
    await createSecretNetwork(manager);
    for (const word of ["sealed-net", "sealed-label", "ingress", "SWMTKN"])
      assert.deepEqual(await filesWith(config["data-root"], word), [], word);
    assert.deepEqual(await filesWith(config["data-root"], "PRIVATE KEY"), []);
  });
});

test("an autolocked manager has nothing without its key, and everything with it", async () => {
  await inFolder(async (config) => {
    const identityFolder = join(config["data-root"], "identity");
    let key = "";
    {
      await using keeper = await keeperFor(config);
      await using manager = new RunningManager(config, false);
      await manager.ready();
      await init(manager);
      await createSecretNetwork(manager);
      assert.equal(await unlockKey(manager), "");
      await spec(manager, true);
      key = await unlockKey(manager);
      assert.match(key, /^SWMKEY-1-[A-Za-z0-9+/]{43}$/);
      await until(
        "the keeper holds what it should",
        () => keeper.keys[0] === key && keeper.keys.length === 1,
      );
      const cluster = await manager.control.unary("GetCluster", {});
      assert.equal(cluster.UnlockKey, "");
    }
    assert.deepEqual(await filesWith(config["data-root"], key.slice(9)), []);
    await using keeper = await keeperFor(config);
    await using manager = new RunningManager(config, false);
    await manager.ready();
    assert.equal((await manager.local.unary("Status", {})).State, "locked");
    await assert.rejects(manager.control.unary("GetCluster", {}), locked);
    await assert.rejects(manager.local.unary("Unlock", {}), locked);
    await assert.rejects(
      manager.local.unary("Join", { ListenAddr: "", AdvertiseAddr: "" }),
      locked,
    );
    await assert.rejects(readIdentity(identityFolder), locked);
    const client = new KeeperClient(join(config["exec-root"], "keeper.sock"), silentLog);
    const keyring = new Keyring(identityFolder, () => heldBy(client).read());
    const other = `SWMKEY-1-${"A".repeat(43)}`;
    assert.equal(await keyring.fits(other), false);
    await assert.rejects(keyring.fits("SWMKEY-1-short"), { code: "invalid" });
    assert.equal(await keyring.fits(key), true);
    keeper.keys = [other];
    await assert.rejects(manager.local.unary("Unlock", {}), locked);
    keeper.keys = [key];
    assert.equal((await manager.local.unary("Unlock", {})).State, "active");
    const found = await manager.control.unary("GetNetwork", {
      ID: "sealed-net",
      InsertDefaults: false,
    });
    assert.equal(found.Spec?.Labels["who"], "sealed-label");
    assert.match((await readIdentity(identityFolder, keyring))?.key ?? "", /BEGIN PRIVATE KEY/);
    client.close();
  });
});

test("a rotated key is the only one that opens, and turning autolock off needs none", async () => {
  await inFolder(async (config) => {
    const identityFolder = join(config["data-root"], "identity");
    await using keeper = await keeperFor(config);
    const keyring = new Keyring(identityFolder, async () => keeper.keys);
    {
      await using manager = new RunningManager(config, false);
      await manager.ready();
      await init(manager);
      await spec(manager, true);
      const first = await unlockKey(manager);
      await until("the keeper holds what it should", () => keeper.keys[0] === first);
      await spec(manager, true, true);
      const second = await unlockKey(manager);
      assert.notEqual(second, first);
      await until(
        "the keeper holds what it should",
        () => keeper.keys[0] === second && keeper.keys.length === 1,
      );
      assert.equal(await keyring.fits(first), false);
      assert.equal(await keyring.fits(second), true);
      await createSecretNetwork(manager);
      await spec(manager, false);
      assert.equal(await unlockKey(manager), "");
      await until("the keeper holds what it should", () => keeper.keys.length === 0);
    }
    const before = (await keyring.dataKeys(false)).keys.at(-1)?.id;
    await using manager = new RunningManager(config, false);
    await manager.ready();
    assert.equal((await manager.local.unary("Status", {})).State, "active");
    await manager.control.unary("GetNetwork", { ID: "sealed-net", InsertDefaults: false });
    // What the log says of earlier keys is history, and moves nothing.
    assert.equal((await keyring.dataKeys(false)).keys.at(-1)?.id, before);
  });
});

/** Starts a manager beside a keeper that remembers nothing yet; both end with the stack. */
async function lockable(folder: string, name: string, stack: Endings) {
  const config = configIn(join(folder, name));
  const keeper = stack.use(await keeperFor(config));
  const manager = stack.use(new RunningManager(config, false));
  await manager.ready();
  return { config, keeper, manager };
}

/** Ends what it was given in reverse. */
class Endings implements AsyncDisposable {
  readonly #all: AsyncDisposable[] = [];

  use<T extends AsyncDisposable>(one: T): T {
    this.#all.push(one);
    return one;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of this.#all.reverse()) await one[Symbol.asyncDispose]();
  }
}

test("of three locked managers none says anything; two that are unlocked serve, and the third follows", async () => {
  await inFolder(async (own) => {
    const folder = dirname(own["data-root"]);
    let key = "";
    {
      await using stack = new Endings();
      const first = await lockable(folder, "h1", stack);
      const { Managers } = await init(first.manager);
      const { JoinTokens } = await first.manager.control.unary("GetCluster", {});
      const all = [first];
      for (const name of ["h2", "h3"]) {
        const next = await lockable(folder, name, stack);
        const token = JoinTokens?.Manager ?? "";
        await joinAsManager(next.manager, name, Managers[0] ?? "", token);
        all.push(next);
      }
      await createSecretNetwork(first.manager);
      await spec(first.manager, true);
      key = await unlockKey(first.manager);
      for (const { keeper } of all)
        await until("each keeper holds the key", () => keeper.keys.join() === key);
    }
    await using stack = new Endings();
    const all: Awaited<ReturnType<typeof lockable>>[] = [];
    for (const name of ["h1", "h2", "h3"]) all.push(await lockable(folder, name, stack));
    for (const { config, manager } of all) {
      assert.equal((await manager.local.unary("Status", {})).State, "locked");
      for (const word of ["sealed-net", "sealed-label", "PRIVATE KEY", key.slice(9)])
        assert.deepEqual(await filesWith(config["data-root"], word), [], word);
    }
    const found = async ({ manager }: (typeof all)[number]) => {
      const { Items } = await manager.control.unary("ListNetworks", { Filters: {}, Status: false });
      return Items.some(({ Spec }) => Spec?.Name === "sealed-net");
    };
    const [one, two, last] = all;
    assert.ok(one !== undefined && two !== undefined && last !== undefined);
    for (const each of [one, two]) {
      each.keeper.keys = [key];
      assert.equal((await each.manager.local.unary("Unlock", {})).State, "active");
    }
    for (const each of [one, two]) await untilTrue("two of three serve", () => found(each));
    await assert.rejects(found(last), locked);
    last.keeper.keys = [key];
    await last.manager.local.unary("Unlock", {});
    await untilTrue("the third serves too", () => found(last));
  });
});

/** Nobody may lead yet. */
async function untilTrue(what: string, ask: () => Promise<boolean>): Promise<void> {
  const giveUp = Date.now() + waitMsMax;
  while (!(await ask().catch(() => false))) {
    if (Date.now() > giveUp) assert.fail(`did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("data keys that nothing is sealed with any more are forgotten, the newest never", async () => {
  await inFolder(async (config) => {
    const keyring = new Keyring(join(config["data-root"], "identity"), async () => []);
    await keyring.dataKeys(true);
    for (let n = 0; n < 3; n++) await keyring.relock("");
    const ids = (await keyring.dataKeys(false)).keys.map(({ id }) => id);
    assert.equal(ids.length, 4);
    await keyring.settle(new Set([ids[1] ?? "", "of-another"]));
    const { keys, acceptsClear } = await keyring.dataKeys(true);
    assert.deepEqual(
      keys.map(({ id }) => id),
      [ids[1], ids[3]],
    );
    assert.equal(acceptsClear, false);
  });
});

test("a manager whose keyring is gone says so and touches nothing", async () => {
  await inFolder(async (config) => {
    {
      await using manager = new RunningManager(config);
      await manager.ready();
      await init(manager);
    }
    await rm(join(config["data-root"], "identity", "keyring.json"));
    const manager = new RunningManager(config);
    await assert.rejects(manager.ready(), { message: /can not be opened with its keyring/ });
    await manager[Symbol.asyncDispose]().catch(() => {});
  });
});
