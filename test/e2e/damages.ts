// What may befall managers of a lab while clients write histories: killed, stopped and continued, cut off, out of disk.

import { readFileSync } from "node:fs";
import { cutCable, healCable } from "../../deploy/lab/cables.ts";
import { machine } from "../../deploy/lab/names.ts";
import { findProgram, initOf, type Program } from "../../deploy/lab/processes.ts";
import { attempt, until } from "./harness.ts";
import { untilManaged } from "./managers-kit.ts";

const damages = [
  "kill leader",
  "stop leader",
  "cut leader",
  "fill leader's disk",
  "kill all",
  "stop follower",
  "cut follower",
  "fill follower's disk",
] as const;
type Damage = (typeof damages)[number];

/** Longer than an election and a leader's patience with followers that it does not hear. */
const lastsMs = 2_500;
const endMsMax = 60_000;
/** Room for what a manager keeps ahead, its reserve, and little more. */
const diskMegabytes = 160;
const folder = "/var/lib/tsswarm/manager";
const small = "/run/small-disk";

/** So many damages in turn, each once the cluster has got over the one before. */
export async function damage(
  managers: readonly string[],
  rounds: number,
  say: (line: string) => void,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const leader = await untilManaged(managers);
    const followers = managers.filter((host) => host !== leader);
    const follower = followers[round % followers.length] ?? leader;
    const kind = damages[round % damages.length] ?? "kill all";
    say(`round ${round + 1}: ${kind} (${leader} leads)`);
    await inflict(kind, kind.includes("follower") ? follower : leader, managers);
  }
  await untilManaged(managers);
}

async function inflict(kind: Damage, host: string, managers: readonly string[]): Promise<void> {
  switch (kind) {
    case "kill all":
      for (const each of managers) signal(each, "manager", "SIGKILL");
      return;
    case "kill leader":
      signal(host, "manager", "SIGKILL");
      return;
    case "stop leader":
    case "stop follower": {
      const pid = signal(host, "manager", "SIGSTOP");
      await pause();
      // Its own keeper may have ended it meanwhile.
      if (pid !== null && isStopped(pid)) process.kill(pid, "SIGCONT");
      return;
    }
    case "cut leader":
    case "cut follower":
      cutCable(machine(host));
      await pause();
      healCable(machine(host));
      return;
    default:
      await inside(
        host,
        `dd if=/dev/zero of=${folder}/fill bs=1M 2>/dev/null; sync ${folder}/fill`,
      );
      await pause();
      await inside(host, `rm ${folder}/fill`);
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, lastsMs));
}

function isStopped(pid: number): boolean {
  try {
    return /^State:\tT/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

function signal(host: string, program: Program, name: NodeJS.Signals): number | null {
  const init = initOf(machine(host));
  const pid = init === null ? null : findProgram(init, program);
  if (pid !== null) process.kill(pid, name);
  return pid;
}

/** Its manager's folder on a disk of its own, which a test may fill; the answer puts everything back. */
export async function onSmallDisk(host: string): Promise<() => Promise<void>> {
  await withoutManager(
    host,
    `mkdir -p ${small} && mount -t tmpfs -o size=$(($(du -sm ${folder} | cut -f1) + ${diskMegabytes}))m tmpfs ${small} && cp -a ${folder}/. ${small}/ && mount --bind ${small} ${folder}`,
  );
  // Lazily: what the kernel has of a process that was killed may be there a little longer.
  return () =>
    withoutManager(
      host,
      `umount -l ${folder} && rm -rf ${folder}/* && cp -a ${small}/. ${folder}/ && rm -f ${folder}/fill && umount -l ${small} && rmdir ${small}`,
    );
}

/** The keeper stands still meanwhile: it would start the manager again. */
async function withoutManager(host: string, script: string): Promise<void> {
  const init = initOf(machine(host));
  if (init === null) throw new Error(`${host} has no power`);
  const keeper = signal(host, "keeper", "SIGSTOP");
  try {
    signal(host, "manager", "SIGKILL");
    await until(`${host}'s manager does not end`, endMsMax, () =>
      findProgram(init, "manager") === null ? true : undefined,
    );
    await inside(host, script);
  } finally {
    if (keeper !== null) process.kill(keeper, "SIGCONT");
  }
}

async function inside(host: string, script: string): Promise<void> {
  const enter = [
    "--target",
    `${initOf(machine(host))?.pid}`,
    "--mount",
    "--pid",
    "--",
    "sh",
    "-c",
    script,
  ];
  const { code, stderr } = await attempt("nsenter", enter);
  if (code !== 0) throw new Error(`${script} at ${host}: ${stderr}`);
}
