// `tsswarm swarm backup` and `tsswarm swarm restore`

import { open, readFile, rename, rm } from "node:fs/promises";
import type { DockerCommand } from "./command.ts";
import { readSecret } from "./secret-input.ts";
import type { Terminal } from "./terminal.ts";

interface BackupFlags {
  readonly keyFile?: string;
}

interface RestoreFlags extends BackupFlags {
  readonly advertiseAddr?: string;
  readonly listenAddr?: string;
  readonly dataPathAddr?: string;
}

const keyVariable = "TSSWARM_BACKUP_KEY";

export function addBackupCommands(swarm: DockerCommand, open: () => Terminal): void {
  swarm
    .command("backup")
    .description("Write everything the swarm knows, with its secret keys, to an encrypted file")
    .usage("[OPTIONS] FILE")
    .argument("<file>")
    .option(
      "--key-file <path>",
      `Read its key from here, - is standard input (default ${keyVariable}, else a new key is made and printed)`,
    )
    .action((file: string, flags: BackupFlags) => backup(open(), file, flags));
  swarm
    .command("restore")
    .description("Make a swarm of a backup, with this node as its only manager")
    .usage("[OPTIONS] FILE")
    .argument("<file>")
    .option("--advertise-addr <string>", "Advertised address (format: <ip|interface>[:port])")
    .option("--listen-addr <node-addr>", "Listen address (format: <ip|interface>[:port])")
    .option("--data-path-addr <string>", "Address or interface to use for data path traffic")
    .option(
      "--key-file <path>",
      `Read the backup's key from here, - is standard input (default ${keyVariable}, else it is asked for)`,
    )
    .action((file: string, flags: RestoreFlags) => restore(open(), file, flags));
}

/** The file appears only when all of it is there and opens with its key. Mode 0600. */
async function backup(terminal: Terminal, file: string, flags: BackupFlags): Promise<void> {
  const { checkBackupKey, decodeBackup, newBackupKey } = await import("../proto/backup.ts");
  const given = await keyFrom(terminal, flags);
  const key = given ?? newBackupKey();
  checkBackupKey(key);
  const draft = `${file}.partial`;
  try {
    const handle = await open(draft, "wx", 0o600);
    try {
      const body = { Key: key };
      const answer = await terminal.client.open("POST", "/tsswarm/swarm/backup", { body });
      for await (const part of answer) await handle.writeFile(part as Buffer);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    const bytes = await readFile(draft);
    const { header } = await decodeBackup(bytes, key);
    await rename(draft, file);
    if (header.isStale)
      terminal.warn(
        "WARNING: no manager leads: this is what this manager knew last; what was written since may be missing\n",
      );
    terminal.print(`${file}: ${bytes.length} bytes, as of ${header.createdAt}\n`);
    if (given === null)
      terminal.print(
        `\nIt is encrypted with this key, which is kept nowhere else:\n\n    ${key}\n\nKeep it apart from the file: without it the backup can not be restored.\n`,
      );
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

async function restore(terminal: Terminal, file: string, flags: RestoreFlags): Promise<void> {
  const bytes = await readFile(file);
  // Damage is said before the daemon is bothered.
  const { decodeBackup, isSealed } = await import("../proto/backup.ts");
  const key = isSealed(bytes)
    ? ((await keyFrom(terminal, flags)) ?? (await readSecret("Enter the backup's key: ")))
    : "";
  const { header } = await decodeBackup(bytes, key);
  const id = await terminal.client.post<string>("/tsswarm/swarm/restore", {
    bytes,
    headers: { "X-Tsswarm-Backup-Key": Buffer.from(key).toString("base64") },
    query: {
      advertiseAddr: flags.advertiseAddr,
      listenAddr: flags.listenAddr,
      dataPathAddr: flags.dataPathAddr,
    },
  });
  terminal.print(
    `Swarm restored as of ${header.createdAt}: node ${id} is its only manager.\n\nNodes that know this address come back by themselves; the other managers come back as workers: promote them with "tsswarm node promote".\n`,
  );
}

/** Null: nothing was said about a key. */
async function keyFrom(terminal: Terminal, flags: BackupFlags): Promise<string | null> {
  if (flags.keyFile === "-") return readSecret("Enter the backup's key: ");
  if (flags.keyFile !== undefined) return (await readFile(flags.keyFile, "utf8")).trim();
  return terminal.environment[keyVariable] || null;
}
