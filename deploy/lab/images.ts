// The lab's two images, made from files of this machine: nothing is fetched from anywhere.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { labFile } from "./names.ts";
import { LabError, run } from "./run.ts";

export interface Blob {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export interface Image {
  /** Repository, without registry and tag. */
  readonly name: string;
  readonly manifest: Blob;
  readonly config: Blob;
  readonly layers: readonly Blob[];
}

export interface Layer {
  readonly blob: Blob;
  /** Digest of the tar before compression. */
  readonly diffId: string;
}

export type Entry =
  | { readonly kind: "folder"; readonly path: string; readonly mode: number }
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly bytes: Buffer }
  | { readonly kind: "link"; readonly path: string; readonly target: string };

const mediaTypes = {
  manifest: "application/vnd.docker.distribution.manifest.v2+json",
  config: "application/vnd.docker.container.image.v1+json",
  layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
} as const;
export const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const created = "2026-01-01T00:00:00Z";

/** busybox with its libraries, and on top of it a web server in Perl. */
export async function makeImages(): Promise<readonly Image[]> {
  const base = await makeLayer(busyboxFiles());
  const server = await makeLayer(whoamiFiles());
  return [
    makeImage("busybox", [base], { Cmd: ["sh"], Env: [`PATH=${searchPath}`] }),
    makeImage("whoami", [base, server], {
      Cmd: ["/usr/bin/perl", "/whoami"],
      Env: [`PATH=${searchPath}`],
      ExposedPorts: { "80/tcp": {} },
    }),
  ];
}

export function makeImage(name: string, layers: readonly Layer[], config: object): Image {
  const architecture = { x64: "amd64" }[process.arch as string] ?? process.arch;
  const configBlob = blob(mediaTypes.config, {
    created,
    architecture,
    os: "linux",
    config,
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
    history: layers.map(() => ({ created, created_by: `tsswarm lab: ${name}` })),
  });
  const blobs = layers.map((layer) => layer.blob);
  const manifest = blob(mediaTypes.manifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: descriptor(configBlob),
    layers: blobs.map(descriptor),
  });
  return { name, manifest, config: configBlob, layers: blobs };
}

function blob(mediaType: string, content: object): Blob {
  const bytes = Buffer.from(JSON.stringify(content));
  return { mediaType, bytes, digest: digestOf(bytes) };
}

function descriptor(of: Blob): object {
  return { mediaType: of.mediaType, size: of.bytes.length, digest: of.digest };
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

export async function makeLayer(entries: readonly Entry[]): Promise<Layer> {
  const archive = pack();
  for (const entry of withFolders(entries)) {
    const header = { name: entry.path.slice(1), mtime: new Date(0), uid: 0, gid: 0 };
    if (entry.kind === "folder")
      archive.entry({ ...header, name: `${header.name}/`, type: "directory", mode: entry.mode });
    else if (entry.kind === "link")
      archive.entry({ ...header, type: "symlink", linkname: entry.target });
    else archive.entry({ ...header, mode: entry.mode }, entry.bytes);
  }
  archive.finalize();
  const parts: Buffer[] = [];
  for await (const part of archive) parts.push(part as Buffer);
  const tar = Buffer.concat(parts);
  const bytes = gzipSync(tar, { level: 1 });
  return {
    blob: { mediaType: mediaTypes.layer, bytes, digest: digestOf(bytes) },
    diffId: digestOf(tar),
  };
}

/** Adds the folders that entries lie in, each once, before what is in them. */
function withFolders(entries: readonly Entry[]): readonly Entry[] {
  const known = new Set(entries.filter((e) => e.kind === "folder").map((e) => e.path));
  const result: Entry[] = [];
  const addParents = (path: string) => {
    const parent = dirname(path);
    if (parent === "/" || known.has(parent)) return;
    addParents(parent);
    known.add(parent);
    result.push({ kind: "folder", path: parent, mode: 0o755 });
  };
  for (const entry of entries) {
    addParents(entry.path);
    result.push(entry);
  }
  return result;
}

/** A statically linked busybox crashes when it resolves a name: only the dynamic one will do. */
export function busyboxFiles(): readonly Entry[] {
  const busybox = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));
  if (busybox === undefined) throw new LabError("busybox is not installed");
  const libraries = librariesOf(busybox);
  if (libraries.length === 0)
    throw new LabError("busybox is statically linked; the dynamic one is needed (package busybox)");
  const applets = run(busybox, "--list")
    .split("\n")
    .filter((name) => name !== "" && name !== "busybox");
  return [
    ...["/dev", "/proc", "/sys", "/root", "/home", "/var", "/run", "/mnt"].map(
      (path) => ({ kind: "folder", path, mode: 0o755 }) as const,
    ),
    { kind: "folder", path: "/tmp", mode: 0o1777 },
    file("/bin/busybox", busybox),
    ...applets.map((name) => ({ kind: "link", path: `/bin/${name}`, target: "busybox" }) as const),
    { kind: "link", path: "/usr/bin/env", target: "/bin/busybox" },
    ...libraries.map((path) => file(path, path)),
    ...nameServiceLibraries(libraries),
    text(
      "/etc/passwd",
      "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    text("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
  ];
}

/** What libc loads by name when it looks up a host. */
function nameServiceLibraries(libraries: readonly string[]): readonly Entry[] {
  const libc = libraries.find((path) => path.endsWith("/libc.so.6"));
  if (libc === undefined) return [];
  return ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"]
    .map((name) => join(dirname(libc), name))
    .filter((path) => existsSync(path) && !libraries.includes(path))
    .map((path) => file(path, path));
}

export function whoamiFiles(): readonly Entry[] {
  const perl = "/usr/bin/perl";
  if (!existsSync(perl)) throw new LabError("perl is not installed (package perl-base)");
  const print = 'print join "\\n", grep { m{/perl-base$} } @INC';
  const modules = execFileSync(perl, ["-e", print], { encoding: "utf8" }).trim();
  if (modules === "") throw new LabError("the modules of perl-base were not found");
  const busyboxLibraries = new Set(librariesOf("/bin/busybox"));
  return [
    file(perl, perl),
    ...librariesOf(perl)
      .filter((path) => !busyboxLibraries.has(path))
      .map((path) => file(path, path)),
    // Tables of Unicode names and cases: large, and not needed here.
    ...filesUnder(modules).filter((entry) => !entry.path.includes("/unicore/")),
    { ...file("/whoami", labFile("whoami.pl")), mode: 0o755 },
  ];
}

/** Paths as the loader looks for them. */
export function librariesOf(program: string): readonly string[] {
  try {
    const listed = execFileSync("ldd", [program], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return [...listed.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
  } catch {
    return [];
  }
}

function filesUnder(folder: string): readonly Extract<Entry, { kind: "file" }>[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => statSync(path).isFile())
    .sort()
    .map((path) => file(path, path));
}

export function file(path: string, source: string): Extract<Entry, { kind: "file" }> {
  const real = realpathSync(source);
  return { kind: "file", path, mode: statSync(real).mode & 0o777, bytes: readFileSync(real) };
}

function text(path: string, content: string): Entry {
  return { kind: "file", path, mode: 0o644, bytes: Buffer.from(content) };
}
