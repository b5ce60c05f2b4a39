// Requests that come to this node's API from a manager's node: what they may be about.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Container } from "../engine/container-types.ts";
import type { Engine } from "../engine/types.ts";
import { reached } from "./tunnel-rules.ts";

const taskLabel = "com.docker.swarm.task.id";

type Looked = Pick<Engine, "inspect" | "inspectExec">;

/** Throws `denied` for what is not about a task's container, and what the engine throws for one that is not there. */
export function refuseOthers(engine: Looked, method: string, path: string): void {
  const about = reached(method, path);
  if (about === null)
    throw new SwarmError("denied", "only containers of tasks can be reached from another node");
  const name = about.kind === "exec" ? engine.inspectExec(about.id).containerId : about.name;
  if (!isOfTask(engine.inspect(name)))
    throw new SwarmError("denied", `container ${name} is none of a task: ask its own node`);
}

/** A command with more rights than its container has is for those who are on its machine. Throws `denied`. */
export function refusePrivileged(engine: Looked, path: string, body: unknown): void {
  const about = reached("POST", path);
  if (about?.kind !== "container" || about.verb !== "exec" || !Buffer.isBuffer(body)) return;
  if (engine.inspect(about.name).host.Privileged === true) return;
  if (isPrivileged(body.toString()))
    throw new SwarmError(
      "denied",
      "a privileged command can be run only at the task's own node: `tsswarm service ps` shows which",
    );
}

/** Text that cannot be read is refused elsewhere. */
function isPrivileged(text: string): boolean {
  try {
    const parsed: unknown = JSON.parse(text);
    return Object.entries(parsed ?? {}).some(
      ([name, value]) => name.toLowerCase() === "privileged" && value === true,
    );
  } catch {
    return false;
  }
}

function isOfTask(container: Container): boolean {
  return container.config.Labels?.[taskLabel] !== undefined;
}
