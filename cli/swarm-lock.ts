// `tsswarm swarm unlock` and `tsswarm swarm unlock-key`

import type { DockerCommand } from "./command.ts";
import { readSecret } from "./secret-input.ts";
import type { Terminal } from "./terminal.ts";

interface Cluster {
  readonly Version?: { readonly Index?: number };
  readonly Spec?: { readonly EncryptionConfig?: { readonly AutoLockManagers?: boolean } };
}

export function addLockCommands(swarm: DockerCommand, open: () => Terminal): void {
  swarm
    .command("unlock")
    .description("Unlock swarm")
    .action(() => unlock(open()));
  swarm
    .command("unlock-key")
    .description("Manage the unlock key")
    .option("-q, --quiet", "Only display token")
    .option("--rotate", "Rotate unlock key")
    .action((flags: { quiet?: boolean; rotate?: boolean }) => unlockKey(open(), flags));
}

async function unlock(terminal: Terminal): Promise<void> {
  const { Swarm } = await terminal.client.get<{ Swarm?: { LocalNodeState?: string } }>("/info");
  const state = Swarm?.LocalNodeState ?? "";
  if (state === "inactive") throw new Error("Error: This node is not part of a swarm");
  if (state !== "locked") throw new Error("Error: swarm is not locked");
  const UnlockKey = await readSecret("Enter unlock key: ");
  await terminal.client.post("/swarm/unlock", { body: { UnlockKey } });
}

async function unlockKey(
  terminal: Terminal,
  flags: { readonly quiet?: boolean; readonly rotate?: boolean },
): Promise<void> {
  const { client } = terminal;
  if (flags.rotate === true) {
    const { Spec: spec, Version: version } = await client.get<Cluster>("/swarm");
    if (!isAutolocked(spec)) throw new Error("cannot rotate because autolock is not turned on");
    await client.post("/swarm/update", {
      body: spec ?? {},
      query: { version: version?.Index ?? 0, rotateManagerUnlockKey: true },
    });
    if (flags.quiet !== true) terminal.print("Successfully rotated manager unlock key.\n\n");
  }
  const key = await currentKey(terminal);
  if (key === "") throw new Error("no unlock key is set");
  if (flags.quiet === true) terminal.print(`${key}\n`);
  else printUnlockKey(terminal, key);
}

export function isAutolocked(spec: Cluster["Spec"]): boolean {
  return spec?.EncryptionConfig?.AutoLockManagers === true;
}

/** What to keep, when managers have just been locked. */
export async function tellUnlockKey(terminal: Terminal): Promise<void> {
  printUnlockKey(terminal, await currentKey(terminal));
}

async function currentKey({ client }: Terminal): Promise<string> {
  const { UnlockKey } = await client.get<{ UnlockKey?: string }>("/swarm/unlockkey");
  return UnlockKey ?? "";
}

function printUnlockKey(terminal: Terminal, key: string): void {
  terminal.print(
    `To unlock a swarm manager after it restarts, run the \`tsswarm swarm unlock\`\ncommand and provide the following key:\n\n    ${key}\n\nRemember to store this key in a password manager, since without it you\nwill not be able to restart the manager.\n`,
  );
}
