// A node whose manager is locked: its containers go on, but nobody says what should run, and what ran can only be stopped.

import type { Vault } from "./engine/vault.ts";
import { type Machine, openVault, swarmParts } from "./member.ts";
import type { Session } from "./session/types.ts";
import { foldersOf, readAddresses } from "./settings.ts";
import { Swarm } from "./swarm.ts";

/** Ends and removes what the swarm has run here. Resolves with the files that its tasks had. */
export async function stopTasks(machine: Machine): Promise<Vault> {
  const addresses = await readAddresses(foldersOf(machine.config).agent);
  const vault = await openVault(machine, "");
  const swarm = await Swarm.open({
    ...swarmParts(machine, vault, ""),
    dataPathAddr: addresses?.dataPathAddr ?? "",
  });
  swarm.start(noSession);
  await swarm.stopAll();
  await swarm.close();
  return vault;
}

/** A session with nobody. */
const noSession: Session = {
  wanted: null,
  async *watch(signal) {
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
  },
  report: () => {},
  acknowledge: () => {},
  onLogs: () => {},
  connected: () => false,
  close: async () => {},
};
