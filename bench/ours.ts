// Our side: the lab of deploy/lab with one manager and two workers.

import { join } from "node:path";
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
import { imageName, layersName } from "./image.ts";
import { enter, groupSeconds, processesOf } from "./processes.ts";
import { pushFrom } from "./registry.ts";
import { hosts, type Side } from "./side.ts";
import { BenchError } from "./wait.ts";

export function ourSide(): Side {
  let isOurs = false;
  let layers: Promise<void> | null = null;
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
    async pushLayers() {
      layers ??= pushFrom(switchMachine.namespace, layersName);
      await layers;
      return `${registryAddress}/${layersName}:latest`;
    },
    async up(say) {
      if (isAnythingLeft())
        throw new BenchError("a lab is here already; `tsswarm lab down` takes it down");
      isOurs = true;
      await up(hosts.length, 1, say);
      await pushFrom(switchMachine.namespace, imageName);
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
