// `tsswarm swarm backup` and `tsswarm swarm restore`

import { open, readFile, rename, rm } from "node:fs/promises";
import type { DockerCommand } from "./command.ts";
import type { Terminal } from "./terminal.ts";

interface RestoreFlags {
  readonly advertiseAddr?: string;
  readonly listenAddr?: string;
  readonly dataPathAddr?: string;
}

export function addBackupCommands(swarm: DockerCommand, open: () => Terminal): void {
  swarm
    .command("backup")
    .description("Write everything the swarm knows, with its secret keys, to a file")
    .usage("FILE")
    .argument("<file>")
    .action((file: string) => backup(open(), file));
  swarm
    .command("restore")
    .description("Make a swarm of a backup, with this node as its only manager")
    .usage("[OPTIONS] FILE")
    .argument("<file>")
    .option("--advertise-addr <string>", "Advertised address (format: <ip|interface>[:port])")
    .option("--listen-addr <node-addr>", "Listen address (format: <ip|interface>[:port])")
    .option("--data-path-addr <string>", "Address or interface to use for data path traffic")
    .action((file: string, flags: RestoreFlags) => restore(open(), file, flags));
}

/** The file appears only when all of it is there and its checksum is right. Mode 0600. */
async function backup(terminal: Terminal, file: string): Promise<void> {
  const { decodeBackup } = await import("../proto/backup.ts");
  const draft = `${file}.partial`;
  try {
    const handle = await open(draft, "wx", 0o600);
    try {
      const answer = await terminal.client.open("GET", "/tsswarm/swarm/backup");
      for await (const part of answer) await handle.writeFile(part as Buffer);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    const bytes = await readFile(draft);
    const { header } = decodeBackup(bytes);
    await rename(draft, file);
    if (header.isStale)
      terminal.warn(
        "WARNING: no manager leads: this is what this manager knew last; what was written since may be missing\n",
      );
    terminal.print(`${file}: ${bytes.length} bytes, as of ${header.createdAt}\n`);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

async function restore(terminal: Terminal, file: string, flags: RestoreFlags): Promise<void> {
  const bytes = await readFile(file);
  // Damage is said before the daemon is bothered.
  const { decodeBackup } = await import("../proto/backup.ts");
  const { header } = decodeBackup(bytes);
  const id = await terminal.client.post<string>("/tsswarm/swarm/restore", {
    bytes,
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
