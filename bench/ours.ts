// Our side: the lab of deploy/lab with one manager and two workers.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { clientOf, waitForDaemon } from "../deploy/lab/cluster.ts";
import { down, up } from "../deploy/lab/lab.ts";
import {
  cgroupName,
  machine,
  outsideMachine,
  programFolder,
  registryAddress,
  switchMachine,
} from "../deploy/lab/names.ts";
import { powerOff, powerOn } from "../deploy/lab/power.ts";
import { initOf } from "../deploy/lab/processes.ts";
import { isAnythingLeft } from "../deploy/lab/record.ts";
import { imageName } from "./image.ts";
import { enter, groupSeconds, processesOf } from "./processes.ts";
import { hosts, type Side } from "./side.ts";
import { BenchError } from "./wait.ts";

export function ourSide(): Side {
  let isOurs = false;
  return {
    name: "tsswarm",
    image: `${registryAddress}/${imageName}:latest`,
    hasVip: true,
    cli: [
      process.execPath,
      join(programFolder, "dist", "cli", "main.js"),
      "-H",
      clientOf(machine(hosts[0])).host,
    ],
    client: (host) => clientOf(machine(host)),
    addressOf: (host) => machine(host).address,
    async up(say) {
      if (isAnythingLeft())
        throw new BenchError("a lab is here already; `tsswarm lab down` takes it down");
      isOurs = true;
      await up(hosts.length, 1, say);
      await pushImage();
    },
    async down(say) {
      if (isOurs && isAnythingLeft()) await down(say);
      isOurs = false;
    },
    powerOff: (host) => powerOff(machine(host)),
    async powerOn(host) {
      await powerOn(machine(host));
      await waitForDaemon(machine(host));
    },
    inside(where) {
      const init = initOf(where === "outside" ? outsideMachine : machine(where));
      if (init === null) throw new BenchError(`${where} is off`);
      return enter(init.pid);
    },
    processes: () =>
      hosts.flatMap((host) => {
        const init = initOf(machine(host));
        return init === null ? [] : processesOf(host, init.pid);
      }),
    cpuSeconds: () => groupSeconds(cgroupName),
  };
}

async function pushImage(): Promise<void> {
  const script = fileURLToPath(new URL("./push.js", import.meta.url));
  const child = spawn(
    "nsenter",
    [`--net=/run/netns/${switchMachine.namespace}`, process.execPath, script],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const code = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) throw new BenchError("the benchmark's image could not be made");
}
