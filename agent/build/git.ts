// A build context out of a git repository, fetched by the program git.

import { execFile } from "node:child_process";
import { lstat, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { errnoOf, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { insideRoot } from "../engine/rootfs.ts";

const run = promisify(execFile);
const gitMsMax = 10 * 60_000;
const wordsMax = 500;
/** No file of this machine, no program of a repository's choice, and nobody is asked for a password. */
const settings = [
  ...["protocol.allow=never", "protocol.https.allow=always", "protocol.http.allow=always"],
  ...["protocol.git.allow=always", "protocol.ssh.allow=always"],
  ...["core.hooksPath=/dev/null", "core.askPass=true", "core.sshCommand=ssh -o BatchMode=yes"],
].flatMap((setting) => ["-c", setting]);

export interface GitAddress {
  readonly url: string;
  readonly ref: string;
  /** In the repository; "" all of it. */
  readonly folder: string;
}

/** `https://….git`, `git://…`, `git@HOST:PATH` or `github.com/…`, and `#REF:FOLDER`; null for anything else. */
export function parseGitAddress(text: string): GitAddress | null {
  const [address = "", fragment = ""] = text.split("#", 2);
  const isGit =
    /^(git:\/\/|git@|github\.com\/)./.test(address) || /^https?:\/\/.+\.git$/.test(address);
  if (!isGit) return null;
  const [ref = "", folder = ""] = fragment.split(":", 2);
  const url = address.startsWith("github.com/") ? `https://${address}` : address;
  return { url, ref: ref || "HEAD", folder };
}

/** The folder of its files. Throws `unsupported` without git, `invalid`, `unavailable` with git's words. */
export async function fetchRepository(
  { url, ref, folder }: GitAddress,
  scratch: string,
  signal: AbortSignal,
): Promise<string> {
  if (!/^[^-\s][^\s]*$/.test(ref)) throw new SwarmError("invalid", `${ref} is no git reference`);
  const root = join(scratch, "context");
  await mkdir(root);
  const git = (...args: readonly string[]) => ask(root, args, signal);
  await git("init", "-q");
  await git("remote", "add", "origin", url);
  // Not every server gives a commit by its digest, or less than all: then all is fetched.
  await git("fetch", "-q", "--depth=1", "origin", ref)
    .then(() => git("checkout", "-q", "FETCH_HEAD"))
    .catch(async (error: unknown) => {
      if (signal.aborted || !/^[0-9a-f]{7,64}$/.test(ref)) throw error;
      await git("fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*");
      await git("checkout", "-q", ref);
    });
  await git("submodule", "-q", "update", "--init", "--recursive", "--depth=1");
  await rm(join(root, ".git"), { recursive: true });
  const place = await insideRoot(root, folder);
  if ((await lstat(place).catch(() => null))?.isDirectory() !== true)
    throw new SwarmError("invalid", `${url} has no folder ${folder} at ${ref}`);
  return place;
}

async function ask(folder: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  const options = { signal, timeout: gitMsMax, cwd: folder };
  await run("git", [...settings, ...args], options).catch((cause: unknown) => {
    if (errnoOf(cause) === "ENOENT")
      throw new SwarmError(
        "unsupported",
        "a build from a git repository needs the program git on this machine: install it, or send the files",
        { cause },
      );
    const words = (cause as { readonly stderr?: string }).stderr?.trim() || messageOf(cause);
    throw new SwarmError("unavailable", `git ${args[0]}: ${words.slice(0, wordsMax)}`, { cause });
  });
}
