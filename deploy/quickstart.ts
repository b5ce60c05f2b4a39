// `npm run quickstart`, after setup: three hosts, one network, one service of six replicas, and what to try next.

import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { diskFolder, machine, programFolder, runFolder, socketOf } from "./lab/names.ts";

const program = join(programFolder, "dist", "cli", "main.js");
const socket = `unix://${socketOf(machine("h1"))}`;
const hosts = ["h1", "h2", "h3"] as const;
const registry = "registry.lab:5000";

/** Shows the command and runs it; the first one that fails ends the whole. */
async function step(...args: readonly string[]): Promise<void> {
  const isLab = args[0] === "lab";
  console.log(`\n$ tsswarm ${isLab ? "" : "-H $H1 "}${args.join(" ")}`);
  const child = spawn(process.execPath, [program, ...(isLab ? [] : ["-H", socket]), ...args], {
    stdio: "inherit",
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) {
    console.error(
      `\nThat did not work. The hosts' logs: ${diskFolder}/HOST/log/; to remove all of it: ${self()} lab down`,
    );
    process.exit(code ?? 1);
  }
}

/** How to call the program from here. */
function self(): string {
  const place = relative(process.cwd(), programFolder);
  return place === "" ? "npx tsswarm" : `npx --prefix ${programFolder} tsswarm`;
}

function fetchFromOutside(host: string): void {
  const { address } = machine(host);
  const command = [
    "lab",
    "exec",
    "outside",
    "--",
    "busybox",
    "timeout",
    "5",
    "busybox",
    "wget",
    "-q",
    "-O",
    "-",
    `http://${address}:8080/`,
  ];
  const done = spawnSync(process.execPath, [program, ...command], { encoding: "utf8" });
  if (done.status !== 0) {
    console.error(`http://${address}:8080/ does not answer: ${done.stderr.trim()}`);
    process.exit(1);
  }
  const line = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(done.stdout)?.[1] ?? "?";
  console.log(
    `http://${address}:8080/ → container ${line("Hostname")}, which saw the caller ${line("RemoteAddr")}`,
  );
}

async function main(): Promise<void> {
  if (existsSync(runFolder)) {
    console.log("A lab is here already; it is taken down to start afresh.");
    await step("lab", "down");
  }
  console.log(
    "Three hosts on this machine, each with its own containerd and daemon, all three managers; H1 is the socket of the first:",
  );
  await step("lab", "up", "--hosts", `${hosts.length}`, "--managers", `${hosts.length}`);
  await step("node", "ls");
  await step("network", "create", "--driver", "overlay", "front");
  await step(
    "service",
    "create",
    "--name",
    "web",
    "--network",
    "front",
    "--replicas",
    "6",
    "--publish",
    "8080:80",
    `${registry}/whoami`,
  );
  await step("service", "ps", "web");
  console.log(
    "\nFrom a client that is no member of the cluster (10.77.0.5), through every host's published port:",
  );
  for (const host of hosts) fetchFromOutside(host);
  const call = self();
  console.log(`
It runs. Try next:

  export TSSWARM_HOST=${socket}
  ${call} service scale web=9
  ${call} service logs -f web
  ${call} lab exec outside -- busybox wget -qO- http://10.77.0.12:8080/
  ${call} lab power-off h3; ${call} service ps web   # h1 and h2 still decide: two of three
  ${call} lab power-on h3
  docker -H $TSSWARM_HOST node ls          # if the docker command is here

Take it down, leaving nothing:

  ${call} lab down`);
}

await main();
