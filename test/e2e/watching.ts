// What passes between the hosts, and what must not change on them.

import { spawn } from "node:child_process";
import { switchMachine } from "../../deploy/lab/names.ts";
import { docker, type RunningTask } from "./harness.ts";

/** Everything that passes the switch, into a file. */
export function startCapture(file: string): () => Promise<void> {
  const capture = [
    "netns",
    "exec",
    switchMachine.namespace,
    "tcpdump",
    "-i",
    "br0",
    "-U",
    "-w",
    file,
  ];
  // What the bridge only passes on is seen because tcpdump makes it promiscuous.
  const child = spawn("ip", [...capture, "--immediate-mode"], { stdio: "ignore" });
  const closed = new Promise<void>((resolve) => child.on("close", () => resolve()));
  return async () => {
    child.kill("SIGTERM");
    await closed;
  };
}

/** What must not change when nothing may move: each task with its container and when that started. */
export async function identities(tasks: readonly RunningTask[]): Promise<readonly string[]> {
  return Promise.all(
    tasks.map(async (task) => {
      const state = await docker(
        task.node,
        "inspect",
        "-f",
        "{{.State.StartedAt}} {{.State.Pid}}",
        task.container,
      );
      return `${task.slot} ${task.id} ${task.node} ${task.container} ${state}`;
    }),
  );
}
