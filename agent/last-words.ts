// What a container that failed said last, for the sentence by which its task's failure is told.

import { messageOf } from "../proto/kit/errors.ts";
import type { Log } from "../proto/kit/log.ts";
import type { Container } from "./engine/container-types.ts";
import type { Engine } from "./engine/types.ts";

const linesMax = 5;
const charactersMax = 400;
const readMsMax = 1_000;

/** `"line | line"`, or "" when it said nothing. Of one that was unhealthy the last check's output. Never throws. */
export async function lastWords(
  engine: Pick<Engine, "logs">,
  container: Container,
  log: Log,
  signal: AbortSignal,
): Promise<string> {
  const health = container.state.Health;
  if (health?.Status === "unhealthy") return shortened(health.Log.at(-1)?.Output ?? "");
  const query = { stdout: true, stderr: true, follow: false, tail: 2 * linesMax };
  let text = "";
  try {
    const ends = AbortSignal.any([signal, AbortSignal.timeout(readMsMax)]);
    for await (const records of engine.logs(container.id, query, ends))
      for (const { data } of records) text += `${Buffer.from(data).toString("utf8")}\n`;
  } catch (error) {
    log.debug({ container: container.id, reason: messageOf(error) }, "no last words");
  }
  return shortened(text);
}

/** Its last lines, without what would move a terminal's cursor. */
function shortened(text: string): string {
  const lines = text
    .split("\n")
    .map((line) =>
      line
        .replaceAll(/\p{Cc}\[[\d;]*[A-Za-z]/gu, "")
        .replaceAll(/\p{Cc}+/gu, " ")
        .trim(),
    )
    .filter((line) => line !== "")
    .slice(-linesMax);
  const joined = lines.join(" | ");
  return joined.length <= charactersMax ? joined : `…${joined.slice(-charactersMax)}`;
}
