// A file's kind and permissions as Go writes them into one number, which is not how the kernel does. Pure.

export type FileKind = "file" | "folder" | "link" | "other";

const folder = 0x8000_0000;
const link = 0x0800_0000;
/** Devices, pipes, sockets, and what Go has no name for. */
const others = 0x0400_0000 | 0x0200_0000 | 0x0100_0000 | 0x0020_0000 | 0x0008_0000;
const special = [
  [0x0080_0000, 0o4000],
  [0x0040_0000, 0o2000],
  [0x0010_0000, 0o1000],
] as const;

export function kindOf(mode: number): FileKind {
  if ((mode & folder) !== 0) return "folder";
  if ((mode & link) !== 0) return "link";
  return (mode & others) === 0 ? "file" : "other";
}

/** As chmod takes them. */
export function permissionsOf(mode: number): number {
  const marks = special.map(([go, unix]) => ((mode & go) === 0 ? 0 : unix));
  return marks.reduce((sum, mark) => sum | mark, mode & 0o777);
}

export function goMode(kind: FileKind, permissions: number): number {
  const marks = special.map(([go, unix]) => ((permissions & unix) === 0 ? 0 : go));
  const own = kind === "folder" ? folder : kind === "link" ? link : 0;
  return (marks.reduce((sum, mark) => sum | mark, own | (permissions & 0o777)) >>> 0) as number;
}
