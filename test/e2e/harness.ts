// What the end-to-end tests do with the lab: start it if nobody has, talk to its hosts, put load on it, look at the machine.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { DaemonClient } from "../../cli/client.ts";
import { labName, machine, outsideMachine, socketOf } from "../../deploy/lab/names.ts";
import { initOf } from "../../deploy/lab/processes.ts";
import { readRecord } from "../../deploy/lab/record.ts";
import { until } from "../../deploy/lab/run.ts";

export { until };

const program = fileURLToPath(new URL("../../cli/main.js", import.meta.url));
const commandMsMax = 90_000;

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A whole number from the environment: how long a test shall be. */
export function setting(name: string, otherwise: number): number {
  const text = process.env[name] ?? "";
  if (text === "") return otherwise;
  if (!/^\d+$/.test(text)) throw new Error(`${name}="${text}" is not a whole number`);
  return Number(text);
}

/** Runs a program to its end; never throws. */
export function attempt(command: string, args: readonly string[]): Promise<Result> {
  return new Promise((resolve) => {
    const options = { timeout: commandMsMax, maxBuffer: 64 * 1024 * 1024 };
    execFile(command, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
      resolve({ code, stdout, stderr: error !== null && stderr === "" ? error.message : stderr });
    });
  });
}

async function command(name: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await attempt(name, args);
  if (code !== 0) throw new Error(`${name} ${args.join(" ")}: exit ${code}: ${stderr || stdout}`);
  return stdout.trimEnd();
}

export function attemptLab(...args: readonly string[]): Promise<Result> {
  return attempt(process.execPath, [program, "lab", ...args]);
}

/** Starts a lab command without waiting for its end. */
export function startLabCommand(...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [program, "lab", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** `tsswarm lab …`: what it printed. */
export function lab(...args: readonly string[]): Promise<string> {
  return command(process.execPath, [program, "lab", ...args]);
}

/** The unmodified docker command against a host's socket. */
export function docker(host: string, ...args: readonly string[]): Promise<string> {
  return command("docker", ["-H", urlOf(host), ...args]);
}

/** Starts a docker command without waiting for its end. */
export function startDocker(host: string, ...args: readonly string[]): ChildProcess {
  return spawn("docker", ["-H", urlOf(host), ...args], { stdio: ["ignore", "pipe", "inherit"] });
}

export function tsswarm(host: string, ...args: readonly string[]): Promise<string> {
  return command(process.execPath, [program, "-H", urlOf(host), ...args]);
}

export function attemptDocker(host: string, ...args: readonly string[]): Promise<Result> {
  return attempt("docker", ["-H", urlOf(host), ...args]);
}

export function attemptTsswarm(host: string, ...args: readonly string[]): Promise<Result> {
  return attempt(process.execPath, [program, "-H", urlOf(host), ...args]);
}

export function api(host: string): DaemonClient {
  return new DaemonClient(urlOf(host));
}

export function urlOf(host: string): string {
  return `unix://${socketOf(machine(host))}`;
}

/** Brings the lab up unless it is; gives what takes it down again if it was us. */
export async function withLab(): Promise<() => Promise<void>> {
  if (readRecord()?.phase === "up") return async () => {};
  await lab("up");
  return async () => {
    await lab("down");
  };
}

/** Runs a program in the client that is no member of the cluster. */
export function inOutside(command: string, args: readonly string[]): ChildProcess {
  const init = initOf(outsideMachine);
  if (init === null) throw new Error("the client outside is not running");
  const enter = ["--target", `${init.pid}`, "--mount", "--uts", "--net", "--pid"];
  return spawn("nsenter", [...enter, "--", command, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
}

export interface Visit {
  /** What the container calls itself. */
  readonly hostname: string;
  /** ip of the caller as the container saw it. */
  readonly caller: string;
}

/** Reads the answers of whoami out of any number of bodies, one after the other. */
export function visits(text: string): readonly Visit[] {
  const hostnames = [...text.matchAll(/^Hostname: (\S+)$/gm)];
  const callers = [...text.matchAll(/^RemoteAddr: (\S+):\d+$/gm)];
  return hostnames.map((match, i) => ({ hostname: match[1] ?? "", caller: callers[i]?.[1] ?? "" }));
}

/** Asks a URL so many times from outside, each time on a new connection. */
export async function visitFromOutside(url: string, times: number): Promise<readonly Visit[]> {
  const script = `for i in $(busybox seq ${times}); do busybox timeout 20 busybox wget -q -O - ${url} || exit 1; done`;
  return visits(await lab("exec", "outside", "--", "sh", "-c", script));
}

/** The same from inside a container. */
export async function visitFrom(
  host: string,
  container: string,
  url: string,
  times: number,
): Promise<readonly Visit[]> {
  const script = `for i in $(seq ${times}); do timeout 20 wget -q -O - ${url} || exit 1; done`;
  return visits(await docker(host, "exec", container, "sh", "-c", script));
}

export interface Load {
  /** Ends it, and may be called again. How many requests were answered, and what was said of the others. */
  stop(): Promise<{ readonly answered: number; readonly failures: readonly string[] }>;
}

/** New connections to the URLs in turn, from outside, until stopped. `turnsOn`: who is refused a connection asks the next, all of them once. */
export function startLoad(urls: readonly string[], pauseMs: number, turnsOn = false): Load {
  const script = `
    const http = require("node:http");
    let answered = 0, next = 0; const failures = []; let going = true;
    process.stdin.on("end", () => { going = false; }).resume();
    const once = (url, others) => new Promise((resolve) => {
      const fail = (error) => {
        if (error.code === "ECONNREFUSED" && others.length > 0) return resolve(once(others[0], others.slice(1)));
        failures.push(new Date().toISOString() + " " + url + ": " + error.message); resolve();
      };
      const request = http.get(url, { agent: false, timeout: 20000 }, (response) => {
        response.on("error", fail).on("end", () => { answered++; resolve(); }).resume();
      });
      request.on("timeout", () => request.destroy(new Error("no answer within 20 s"))).on("error", fail);
    });
    (async () => {
      const urls = ${JSON.stringify(urls)};
      while (going) {
        const [first, ...others] = urls.map((_, i) => urls[(next + i) % urls.length]); next++;
        await once(first, ${turnsOn} ? others : []); await new Promise((r) => setTimeout(r, ${pauseMs}));
      }
      console.log(JSON.stringify({ answered, failures }));
    })();`;
  const child = inOutside(process.execPath, ["-e", script]);
  let printed = "";
  child.stdout?.on("data", (part: Buffer) => {
    printed += part.toString();
  });
  const closed = new Promise<void>((resolve) => child.on("close", () => resolve()));
  return {
    async stop() {
      child.stdin?.end();
      await closed;
      return JSON.parse(printed) as { answered: number; failures: string[] };
    },
  };
}

export interface RunningTask {
  readonly id: string;
  readonly slot: number;
  readonly node: string;
  readonly container: string;
}

interface TaskBody {
  readonly ID: string;
  readonly Slot?: number;
  readonly NodeID?: string;
  readonly DesiredState: string;
  readonly Status: {
    readonly State: string;
    readonly ContainerStatus?: { readonly ContainerID?: string };
  };
}

/** A service's tasks that run and should, with the names of their hosts. */
export async function runningTasks(
  manager: string,
  service: string,
): Promise<readonly RunningTask[]> {
  const client = api(manager);
  const query = { filters: JSON.stringify({ service: [service] }) };
  const [tasks, nodes] = await Promise.all([
    client.get<readonly TaskBody[]>("/tasks", { query }),
    client.get<readonly { ID: string; Description: { Hostname: string } }[]>("/nodes"),
  ]);
  const names = new Map(nodes.map((node) => [node.ID, node.Description.Hostname]));
  return tasks
    .filter((task) => task.DesiredState === "running" && task.Status.State === "running")
    .map((task) => ({
      id: task.ID,
      slot: task.Slot ?? 0,
      node: names.get(task.NodeID ?? "") ?? "",
      container: task.Status.ContainerStatus?.ContainerID ?? "",
    }))
    .sort((a, b) => a.slot - b.slot);
}

/** Waits until so many tasks of the service run, and which. */
export function untilRunning(
  manager: string,
  service: string,
  count: number,
  msMax: number,
  fits: (task: RunningTask) => boolean = () => true,
): Promise<readonly RunningTask[]> {
  let seen = 0;
  const why = () => `only ${seen} of ${count} tasks of ${service} run after ${msMax} ms`;
  return until(why, msMax, async () => {
    const tasks = await runningTasks(manager, service).catch(() => []);
    seen = tasks.filter(fits).length;
    return tasks.length === count && seen === count ? tasks : undefined;
  });
}

/** Waits until so many tasks of the service are named to each who asks: one that runs is known to the other hosts a moment later. */
export async function untilNamed(
  service: string,
  count: number,
  asking: readonly RunningTask[],
  msMax: number,
): Promise<void> {
  for (const { node, container } of asking)
    await until(`not all tasks of ${service} are named on ${node}`, msMax, async () => {
      const found = await attemptDocker(node, "exec", container, "nslookup", `tasks.${service}`);
      return found.stdout.match(/^Address: \d/gm)?.length === count || undefined;
    });
}

/** Waits until each of the hosts' daemons answers. */
export async function untilAnswering(hosts: readonly string[], msMax: number): Promise<void> {
  for (const host of hosts)
    await until(`the daemon of ${host} does not answer`, msMax, () =>
      api(host)
        .get("/_ping")
        .then(
          () => true,
          () => undefined,
        ),
    );
}

/** Waits until the daemon of a host counts so many ready nodes. */
export async function untilReady(manager: string, count: number, msMax: number): Promise<void> {
  await until(`not ${count} nodes became ready`, msMax, async () => {
    const nodes = await api(manager)
      .get<readonly { Status: { State: string } }[]>("/nodes")
      .catch(() => []);
    return nodes.filter((node) => node.Status.State === "ready").length === count
      ? true
      : undefined;
  });
}

/** Waits until nothing uses the network any more; one that is not there is removed already. */
export async function removeNetwork(manager: string, name: string, msMax: number): Promise<void> {
  let said = "";
  await until(
    () => `network ${name} cannot be removed: ${said}`,
    msMax,
    async () => {
      const { code, stderr } = await attemptDocker(manager, "network", "rm", name);
      said = stderr;
      return code === 0 || /not found|No such network/i.test(stderr) ? true : undefined;
    },
  );
}

/**
 * What labs could leave behind on this machine, one line each: things that bear our name, and anything at all in the
 * machine's own network. Others may come and go meanwhile: a machine is seldom alone with its tests.
 */
export async function machineState(
  labs: readonly string[] = [labName],
): Promise<readonly string[]> {
  const things = [
    ...list("/run/netns").map((name) => `namespace ${name}`),
    ...["/run", "/var/lib", "/var/log", "/opt", "/etc"].flatMap((folder) =>
      list(folder).map((name) => `file ${folder}/${name}`),
    ),
    ...readFileSync("/proc/mounts", "utf8")
      .trim()
      .split("\n")
      .map((line) => `mount ${line}`),
    ...cgroups().map((folder) => `control group ${folder}`),
    ...processes(),
  ];
  const lines = things.filter((line) => isOurs(line, labs));
  for (const args of [["-o", "link"], ["-o", "addr"], ["route"], ["rule"]])
    lines.push(...(await command("ip", args)).split("\n").map((line) => `ip ${line.trim()}`));
  lines.push(
    ...(await command("nft", ["list", "ruleset"])).split("\n").map((line) => `nft ${line}`),
  );
  return lines.filter((line) => !/^ip .*(valid_lft|qdisc)/.test(line)).sort();
}

/** What is on this machine now and was not `before`, or the other way round. Empty: it is as it was. */
export async function changedSince(
  before: readonly string[],
  labs: readonly string[] = [labName],
): Promise<readonly string[]> {
  const now = await machineState(labs);
  const [old, current] = [new Set(before), new Set(now)];
  return [
    ...now.filter((line) => !old.has(line)).map((line) => `+ ${line}`),
    // Processes may end by themselves.
    ...before
      .filter((line) => !current.has(line) && !line.startsWith("process "))
      .map((line) => `- ${line}`),
  ];
}

/** Ours by name. A process of the lab has inherited the lab's folders with its environment. */
function isOurs(line: string, labs: readonly string[]): boolean {
  const words = line.split(/[\s/]/);
  const isOfLab = labs.some((lab) =>
    words.some((word) => word === lab || word.startsWith(`${lab}-`)),
  );
  return isOfLab || /\btsswarm-program\b|\/(run|lib|log|etc)\/tsswarm\b(?![.-])/.test(line);
}

function list(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function cgroups(): readonly string[] {
  const found: string[] = [];
  for (const hierarchy of ["", ...list("/sys/fs/cgroup")])
    for (const name of list(`/sys/fs/cgroup/${hierarchy}`))
      if (name.startsWith("tsswarm")) found.push(`${hierarchy}/${name}`);
  return found;
}

/** Every process with the folder of the lab it belongs to; what has ended and waits to be reaped has none any more. */
function processes(): readonly string[] {
  return list("/proc")
    .filter((pid) => /^\d+$/.test(pid))
    .flatMap((pid) => {
      try {
        const variables = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
        const folder = variables.find((variable) => variable.startsWith("LAB_FOLDER="));
        const name = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
        return folder === undefined ? [] : [`process ${pid} ${name} ${folder}`];
      } catch {
        return [];
      }
    });
}
