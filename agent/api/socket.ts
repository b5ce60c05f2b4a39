// The unix socket the API listens on: taken over when stale, refused when someone answers there.

import { chmod, chown, lstat, mkdir, readFile, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";
import { dirname } from "node:path";
import { errnoOf, messageOf, SwarmError } from "../../proto/kit/errors.ts";

/** Mode 0660 for root and the group `docker` where that exists, else 0600. Errors: `conflict`, `unavailable`. */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o711 });
  await removeStale(path);
  await new Promise<void>((resolve, reject) => {
    const failed = (error: Error) =>
      reject(
        new SwarmError("unavailable", `cannot listen on ${path}: ${messageOf(error)}`, {
          cause: error,
        }),
      );
    server.once("error", failed);
    // listen() binds at once: nobody but us can reach the socket before its mode is set.
    const before = process.umask(0o177);
    try {
      server.listen(path, () => {
        server.off("error", failed);
        resolve();
      });
    } finally {
      process.umask(before);
    }
  });
  const group = await dockerGroup();
  if (group === null) return;
  await chown(path, process.getuid?.() ?? 0, group);
  await chmod(path, 0o660);
}

async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  });
  if (found === null) return;
  if (!found.isSocket())
    throw new SwarmError(
      "conflict",
      `${path} exists and is not a socket: remove it or choose another host`,
    );
  if (await answers(path))
    throw new SwarmError(
      "conflict",
      `another process listens on ${path}: stop it or choose another host`,
    );
  await unlink(path);
}

async function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.once("connect", () => settle(true));
    socket.once("error", (error) => settle(!["ECONNREFUSED", "ENOENT"].includes(errnoOf(error))));
  });
}

async function dockerGroup(): Promise<number | null> {
  if (process.getuid?.() !== 0) return null;
  const groups = await readFile("/etc/group", "utf8").catch(() => "");
  const id = /^docker:[^:]*:(\d+):/m.exec(groups)?.[1];
  return id === undefined ? null : Number(id);
}
