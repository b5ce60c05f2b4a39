// What the lab remembers of itself between commands.

import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "../../proto/kit/errors.ts";
import { diskFolder, hostIndex, type Machine, machine, runFolder } from "./names.ts";
import { LabError } from "./run.ts";

export interface LabRecord {
  /** `starting` until `lab up` has finished: what is found so later was killed half-way. */
  readonly phase: "starting" | "up";
  /** Names, in the order in which they were made. */
  readonly hosts: readonly string[];
  readonly managers: readonly string[];
  /** The lab was the first to use named network namespaces here. */
  readonly madeNamespaceFolder: boolean;
}

const path = join(runFolder, "lab.json");

/** The running lab's record; null when there is none, or none that can be read. */
export function readRecord(): LabRecord | null {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as LabRecord;
  } catch {
    return null;
  }
}

export function writeRecord(record: LabRecord): void {
  writeFileSync(`${path}.new`, JSON.stringify(record));
  renameSync(`${path}.new`, path);
}

/** Makes the lab's folders; only one of two callers at the same time succeeds. */
export function claim(): void {
  try {
    mkdirSync(runFolder);
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    throw new LabError(
      readRecord()?.phase === "up"
        ? "the lab is already up; `tsswarm lab down` takes it down"
        : "a lab was started and not finished; `tsswarm lab down` removes what is left of it",
    );
  }
  mkdirSync(diskFolder, { recursive: true });
}

/** Whether anything of a lab is on this machine. */
export function isAnythingLeft(): boolean {
  return existsSync(runFolder) || existsSync(diskFolder);
}

export function theLab(): LabRecord {
  const record = readRecord();
  if (record === null) throw new LabError("the lab is not up; `tsswarm lab up` starts it");
  return record;
}

/** The host of that name in the running lab. */
export function theHost(name: string): Machine {
  const { hosts } = theLab();
  if (hostIndex(name) > 0 && hosts.includes(name)) return machine(name);
  throw new LabError(`the lab has no host "${name}"; it has ${hosts.join(", ")}`);
}
