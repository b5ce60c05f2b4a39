// Whether this machine can be a node at all: each lack is one sentence.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { SwarmError } from "../proto/kit/errors.ts";
import { checkKernel } from "./network/kernel.ts";

const run = promisify(execFile);
const nodeMinimum = [20, 11] as const;

export interface Machine {
  readonly platform: string;
  /** Of Node, as `process.versions.node`. */
  readonly nodeVersion: string;
  readonly userId: number;
  /** Whether a program can be found. */
  has(program: string): Promise<boolean>;
  /** What the kernel lacks. */
  kernelLacks(): Promise<readonly string[]>;
}

const thisMachine: Machine = {
  platform: process.platform,
  nodeVersion: process.versions.node,
  userId: process.getuid?.() ?? -1,
  has: (program) =>
    run(program, ["--version"]).then(
      () => true,
      () => false,
    ),
  kernelLacks: checkKernel,
};

/** Throws `unsupported` with one sentence about what is missing. */
export async function checkMachine(machine: Machine = thisMachine): Promise<void> {
  if (machine.platform !== "linux")
    throw lacks(`tsswarm runs on Linux only, this is ${machine.platform}`);
  const [major = 0, minor = 0] = machine.nodeVersion.split(".").map(Number);
  if (major < nodeMinimum[0] || (major === nodeMinimum[0] && minor < nodeMinimum[1]))
    throw lacks(
      `tsswarm needs Node ${nodeMinimum.join(".")} or newer, this is ${machine.nodeVersion}`,
    );
  if (machine.userId !== 0) throw lacks("the tsswarm daemon has to be run as root");
  for (const [program, purpose] of Object.entries(programs))
    if (!(await machine.has(program))) throw lacks(`${program} is missing: ${purpose}`);
  const [missing] = await machine.kernelLacks();
  if (missing !== undefined) throw lacks(`this kernel cannot do what tsswarm needs: ${missing}`);
}

const programs: Readonly<Record<string, string>> = {
  nft: "the networks' rules need it (on Debian: apt install nftables)",
  runc: "containers are run by it (on Debian: apt install runc)",
};

function lacks(sentence: string): SwarmError {
  return new SwarmError("unsupported", sentence);
}
