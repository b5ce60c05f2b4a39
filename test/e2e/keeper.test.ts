// The keeper as a process of its own, killed and started again, with a real network namespace and real pipes.

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import dnsPacket from "dns-packet";
import { until } from "../../deploy/lab/run.ts";
import { KeeperClient } from "../../proto/kit/keeper-client.ts";
import { silentLog } from "../../proto/kit/log.ts";
import { createNamespace, removeNamespace, udpSocketIn } from "../../proto/kit/netns.ts";

const program = fileURLToPath(new URL("../../cli/main.js", import.meta.url));
const answerMsMax = 30_000;
const startMsMax = 60_000;
let folder = "";
const keepers: ChildProcess[] = [];

/** In a network of its own; with a containerd that is not there: its agent looks for it for some seconds, which is all the time needed here. */
function startKeeper(execRoot = "run"): ChildProcess {
  const started = spawn(
    "nsenter",
    [
      ...[`--net=${join(folder, "host")}`, process.execPath],
      program,
      "daemon",
      ...["--exec-root", join(folder, execRoot)],
      ...["--data-root", join(folder, "data")],
      ...["--containerd", join(folder, "containerd.sock")],
      ...["--host", `unix://${folder}/docker.sock`],
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  keepers.push(started);
  return started;
}

/** To a keeper that has just been started: it answers when this resolves. */
async function connect(): Promise<KeeperClient> {
  const client = new KeeperClient(join(folder, "run", "keeper.sock"), silentLog);
  await until("the keeper does not answer", startMsMax, () =>
    client.ask({ do: "status" }).then(
      () => true,
      () => undefined,
    ),
  );
  return client;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  child.stderr?.resume();
  const ended = child.exitCode === null && child.signalCode === null ? once(child, "exit") : null;
  child.kill(signal);
  await ended;
}

/** Asks the name server inside the namespace; null without an answer in time. */
async function ask(
  namespace: string,
  name: string,
  msMax = 1_000,
): Promise<readonly string[] | null> {
  const socket = createSocket("udp4");
  try {
    socket.bind({ fd: udpSocketIn(namespace, "127.0.0.1", 0) });
    const query = { id: 1, type: "query" as const, questions: [{ type: "A" as const, name }] };
    socket.send(dnsPacket.encode(query), 4053, "127.0.0.11");
    const [reply] = (await once(socket, "message", { signal: AbortSignal.timeout(msMax) })) as [
      Buffer,
    ];
    return (dnsPacket.decode(reply).answers ?? []).map((answer) =>
      answer.type === "A" ? answer.data : "",
    );
  } catch {
    return null;
  } finally {
    socket.close();
  }
}

async function untilLogged(file: string, text: string): Promise<void> {
  await until(`"${text}" is not logged`, startMsMax, () =>
    existsSync(file) && readFileSync(file, "utf8").includes(text) ? true : undefined,
  );
}

before(() => {
  folder = mkdtempSync("/run/tsswarm-keeper-test-");
  createNamespace(join(folder, "host"));
});
after(async () => {
  for (const keeper of keepers) await end(keeper, "SIGKILL");
  for (const name of ["netns", "host"]) removeNamespace(join(folder, name));
  rmSync(folder, { recursive: true, force: true });
});

test("a killed keeper's successor answers names and follows logs before any agent is there", async () => {
  const namespace = join(folder, "netns");
  createNamespace(namespace);
  execFileSync("nsenter", [`--net=${namespace}`, "ip", "link", "set", "lo", "up"]);
  const fifo = join(folder, "stdout");
  execFileSync("mkfifo", [fifo]);
  const logs = join(folder, "logs", "current.log");

  const first = startKeeper();
  const client = await connect();
  await client.ask({
    do: "openLogs",
    container: "c1",
    stdout: fifo,
    directory: join(folder, "logs"),
    fileBytesMax: 1_000_000,
    filesMax: 2,
  });
  await client.ask({
    do: "setNames",
    tables: { n1: { names: { web: ["10.1.0.2"] }, addresses: {} } },
  });
  const sandbox = { sandbox: "s1", namespace, tables: ["n1"], upstream: [], search: [] };
  await client.ask({ do: "serveNames", ...sandbox });
  assert.deepEqual(await ask(namespace, "web", answerMsMax), ["10.1.0.2"]);
  // As a container's shim does, both ends stay open.
  const container = openSync(fifo, "r+");
  writeSync(container, "before\n");
  await untilLogged(logs, "before");
  await until("the keeper's state is not saved", startMsMax, () =>
    existsSync(join(folder, "run", "keeper-state.json")) ? true : undefined,
  );
  client.close();

  await end(first, "SIGKILL");
  writeSync(container, "between\n");
  assert.equal(await ask(namespace, "web"), null);
  const second = startKeeper();
  await untilLogged(logs, "between");
  await until(
    "the name is not answered",
    startMsMax,
    async () => (await ask(namespace, "WEB")) ?? undefined,
  );
  assert.deepEqual(await ask(namespace, "web", answerMsMax), ["10.1.0.2"]);
  const lines = readFileSync(logs, "utf8").trim().split("\n");
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { log: string }).log),
    ["before\n", "between\n"],
  );
  await end(second, "SIGTERM");
  assert.equal(second.exitCode, 0);
  assert.equal(existsSync(join(folder, "run", "agent.pid")), false, "nothing is left on record");
  closeSync(container);
});

test("a daemon whose machine has no containerd says so in one sentence and ends with 1", async () => {
  assert.match(
    await lastSentence(startKeeper()),
    /containerd does not answer at .*containerd\.sock/,
  );
});

test("a second daemon with the network of the first is refused with the first one's name, and disturbs nothing", async () => {
  const first = startKeeper();
  first.stderr?.resume();
  const client = await connect();
  const said = await lastSentence(startKeeper("elsewhere"));
  assert.match(said, new RegExp(`process ${first.pid}, --exec-root ${join(folder, "run")}\\)`));
  await client.ask({ do: "status" });
  client.close();
  await end(first, "SIGTERM");
});

/** Of a daemon that ends with 1 by itself: all it says but the log. */
async function lastSentence(child: ChildProcess): Promise<string> {
  let said = "";
  child.stderr?.on("data", (chunk) => {
    said += String(chunk);
  });
  await once(child, "close");
  assert.equal(child.exitCode, 1);
  const plain = said.split("\n").filter((line) => line !== "" && !line.startsWith("{"));
  assert.equal(plain.length, 1);
  return plain[0] ?? "";
}

test("an agent that has run before and lacks something now is started again and again", async () => {
  const child = startKeeper();
  child.stderr?.resume();
  const client = await connect();
  const agent = async () => {
    const { status } = await client.ask({ do: "status" });
    return status?.children["agent"] ?? { pid: null, restarts: 0 };
  };
  const pid = await until(
    "no agent is started",
    startMsMax,
    async () => (await agent()).pid ?? undefined,
  );
  process.kill(pid, "SIGKILL");
  await until("the agent is not started again", startMsMax, async () =>
    (await agent()).restarts >= 2 ? true : undefined,
  );
  client.close();
  await end(child, "SIGTERM");
  assert.equal(child.exitCode, 0);
});
