// A manager that is locked: its containers go on, its data say nothing, and its key brings all of it back.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { machine } from "../../deploy/lab/names.ts";
import { findProgram, initOf } from "../../deploy/lab/processes.ts";
import {
  api,
  attempt,
  attemptDocker,
  docker,
  removeNetwork,
  until,
  untilReady,
  untilRunning,
  urlOf,
  withLab,
} from "./harness.ts";

const host = "h1";
const whoami = "registry.lab:5000/whoami";
const backMsMax = 90_000;
const hushed = ["service", "label", "net", "environment", "secret", "config", "value"].map(
  (word) => `hushed-${word}`,
);
const closers: (() => Promise<void> | void)[] = [];

before(async () => {
  closers.push(await withLab());
});

after(async () => {
  for (const close of closers.reverse()) await close();
});

function restartDaemon(): void {
  const init = initOf(machine(host));
  const pid = init === null ? null : findProgram(init, "keeper");
  assert.ok(pid !== null);
  process.kill(pid, "SIGTERM");
}

function untilState(state: string): Promise<string> {
  let seen = "nothing";
  return until(
    () => `${host} is not ${state} but ${seen}`,
    backMsMax,
    async () => {
      const info = await api(host)
        .get<{ Swarm: { LocalNodeState: string } }>("/info", { signal: AbortSignal.timeout(5_000) })
        .catch(() => null);
      seen = info?.Swarm.LocalNodeState ?? "nothing";
      return seen === state ? seen : undefined;
    },
  );
}

async function filesWith(word: string): Promise<string[]> {
  const found: string[] = [];
  const dataRoot = join(machine(host).disk, "var-lib", "tsswarm");
  for (const each of await readdir(dataRoot, { recursive: true, withFileTypes: true })) {
    const path = join(each.parentPath, each.name);
    if (each.isFile() && (await readFile(path)).includes(word)) found.push(path);
  }
  return found;
}

async function unlock(key: string): Promise<{ code: number; stderr: string }> {
  const script = `printf '%s\\n' '${key}' | "$@"`;
  return attempt("sh", ["-c", script, "sh", "docker", "-H", urlOf(host), "swarm", "unlock"]);
}

async function tasksHere(): Promise<readonly string[]> {
  const ids = await docker(host, "ps", "-q", "--no-trunc", "--filter", "name=hushed-service");
  return ids.split("\n").filter(Boolean).sort();
}

test("a locked manager's containers run on, its files say nothing, and its key brings it back", async () => {
  const words = (text: string) => text.split(" ");
  await docker(host, ...words("network create -d overlay --label who=hushed-label hushed-net"));
  for (const kind of ["secret", "config"]) {
    const script = 'echo hushed-value | docker -H "$1" "$2" create "hushed-$2" -';
    const { code, stderr } = await attempt("sh", ["-c", script, "sh", urlOf(host), kind]);
    assert.equal(code, 0, stderr);
  }
  await docker(
    host,
    ...words("service create -d --name hushed-service --network hushed-net --replicas 2"),
    ...words(
      "--env A=hushed-environment --label who=hushed-label --container-label b=hushed-label",
    ),
    ...words("--hostname hushed-{{.Task.Slot}} --secret hushed-secret --config hushed-config"),
    ...["--constraint", `node.hostname==${host}`, whoami],
  );
  closers.push(async () => {
    await docker(host, "service", "rm", "hushed-service");
    await removeNetwork(host, "hushed-net", backMsMax);
    for (const kind of ["secret", "config"]) await docker(host, kind, "rm", `hushed-${kind}`);
  });
  await untilRunning(host, "hushed-service", 2, backMsMax);
  const local = await docker(host, "run", "-d", "--name", "stays", whoami);
  closers.push(async () => void (await docker(host, "rm", "-f", "stays")));
  const said = await docker(host, "swarm", "update", "--autolock");
  const key = /SWMKEY-1-\S+/.exec(said)?.[0] ?? "";
  closers.push(async () => {
    if ((await unlock(key)).code === 0) await untilState("active");
    await docker(host, "swarm", "update", "--autolock=false");
  });
  assert.match(key, /^SWMKEY-1-[A-Za-z0-9+/]{43}$/);
  assert.equal(await docker(host, "swarm", "unlock-key", "-q"), key);
  const early = await attemptDocker(host, "swarm", "unlock");
  assert.match(early.stderr, /swarm is not locked/);

  // What ran before is hidden as well, and what comes now never comes to the disk.
  await docker(host, "service", "scale", "-d", "hushed-service=3");
  await untilRunning(host, "hushed-service", 3, backMsMax);
  const tasks = await tasksHere();
  assert.equal(tasks.length, 3);

  restartDaemon();
  await untilState("locked");
  assert.deepEqual(await tasksHere(), tasks);
  assert.equal(await docker(host, "ps", "-q", "--no-trunc", "--filter", "name=stays"), local);
  assert.match(
    (await attemptDocker(host, "node", "ls")).stderr,
    /needs to be unlocked before it can be used/,
  );
  assert.match((await attemptDocker(host, "swarm", "leave")).stderr, /encrypted and locked/);
  for (const word of [...hushed, key.slice(9), "SWMTKN", "PRIVATE KEY"])
    assert.deepEqual(await filesWith(word), [], word);

  const wrong = await unlock(`SWMKEY-1-${"A".repeat(43)}`);
  assert.match(wrong.stderr, /invalid key provided/);
  assert.match((await unlock("nonsense")).stderr, /invalid key string/);
  await untilState("locked");
  assert.equal((await unlock(key)).code, 0);
  await untilState("active");
  await untilReady(host, 3, backMsMax);
  const service = await docker(
    host,
    "service",
    "inspect",
    "-f",
    "{{.Spec.TaskTemplate.ContainerSpec.Env}}",
    "hushed-service",
  );
  assert.equal(service, "[A=hushed-environment]");
  assert.deepEqual(await tasksHere(), tasks);
});
