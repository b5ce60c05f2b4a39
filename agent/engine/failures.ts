// Why a process could not be started, in Docker's exit codes. Pure.

import { asSwarmError, messageOf, SwarmError } from "../../proto/kit/errors.ts";

const notFound = 127;
const notExecutable = 126;
const otherwise = 128;

/** 127 the program is not there, 126 it cannot be executed, else 128. `what` is what was to be started. */
export function startFailure(
  what: string,
  error: unknown,
): { readonly exitCode: number; readonly error: SwarmError } {
  const { code } = asSwarmError(error);
  // No fault of the request's, and said as Docker says it.
  if (isNobody(messageOf(error)))
    return {
      exitCode: otherwise,
      error: new SwarmError("internal", messageOf(error), { cause: error }),
    };
  const message = `cannot start ${what}: ${inRuncWords(messageOf(error))}`;
  const exitCode = exitCodeOf(message);
  const kept = code === "unavailable" || code === "not_found" || code === "conflict";
  const wrapped = new SwarmError(kept ? code : "invalid", message, { cause: error });
  return { exitCode: kept ? otherwise : exitCode, error: wrapped };
}

/** As `startFailure`, in the runtime's own words: they are the output of the command that could not run. */
export function execFailure(error: unknown): ReturnType<typeof startFailure> {
  const { exitCode, error: failure } = startFailure("exec", error);
  const message = inRuncWords(messageOf(error));
  return {
    exitCode: isNobody(message) ? notExecutable : exitCode,
    error: new SwarmError(isNobody(message) ? "invalid" : failure.code, message, { cause: error }),
  };
}

function isNobody(message: string): boolean {
  return /^unable to find (user|group)/i.test(message);
}

/** Docker's clients know runc's words for what cannot be started, and tell their exit code by them; crun has others. */
function inRuncWords(message: string): string {
  const prefix = "unable to start container process: exec";
  return message
    .replace(
      /executable file `([^`]*)` not found( in \$PATH)?: No such file or directory/,
      (_, program: string, inPath: string | undefined) =>
        inPath === undefined
          ? `${prefix}: "${program}": stat ${program}: no such file or directory`
          : `${prefix}: "${program}": executable file not found in $PATH`,
    )
    .replace(
      /open executable: (Permission denied|Operation not permitted)/,
      `${prefix}: permission denied`,
    )
    .replace(
      /: (No such file or directory|Permission denied|Not a directory|Is a directory)/g,
      (words) => words.toLowerCase(),
    );
}

function exitCodeOf(message: string): number {
  if (/not found|no such file/i.test(message)) return notFound;
  if (/permission denied|is a directory/i.test(message)) return notExecutable;
  return otherwise;
}
