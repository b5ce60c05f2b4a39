// The names of a container's log files: current.log, and older ones current.log.N, or current.log.N.MARK.gz as gzip. Pure.

export const currentName = "current.log";

const pattern = /^current\.log(?:\.(\d+)(?:\.(\d+-\d+)\.gz)?)?$/;

export interface LogFileName {
  /** 0 is the current one. */
  readonly age: number;
  /** Of gzip, what it was made of, see `markOf`; else "". */
  readonly mark: string;
}

/** Null for what is no log file. */
export function parseLogName(name: string): LogFileName | null {
  const [found, age = "0", mark = ""] = pattern.exec(name) ?? [];
  return found === undefined ? null : { age: Number(age), mark };
}

export function logName({ age, mark }: LogFileName): string {
  if (age === 0) return currentName;
  return mark === "" ? `${currentName}.${age}` : `${currentName}.${age}.${mark}.gz`;
}

/** A file that is not written to any more: no other one, now or later, has both. */
export function markOf(facts: { readonly ino: bigint; readonly mtimeNs: bigint }): string {
  return `${facts.ino}-${facts.mtimeNs}`;
}

export interface Rotation {
  readonly removed: readonly string[];
  /** From, to: in this order none covers another. */
  readonly renamed: readonly (readonly [string, string])[];
}

/** Every file becomes one older; so many are kept, the next current one counted. */
export function rotation(names: readonly string[], filesMax: number): Rotation {
  const files = names.flatMap((name) => parseLogName(name) ?? []).sort((a, b) => b.age - a.age);
  const isKept = ({ age }: LogFileName) => age < filesMax - 1;
  return {
    removed: files.filter((file) => !isKept(file)).map(logName),
    renamed: files
      .filter(isKept)
      .map((file) => [logName(file), logName({ ...file, age: file.age + 1 })]),
  };
}
