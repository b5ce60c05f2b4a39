// Keys and passphrases: from a terminal that does not show them, else from standard input. Never from an argument, which other
// programs on the machine can read.

const bytesMax = 64 * 1024;

/** The first line. Rejects when there is none. */
export async function readSecret(prompt: string): Promise<string> {
  const { stdin, stderr } = process;
  const isTerminal = stdin.isTTY === true;
  if (isTerminal) stderr.write(prompt);
  if (isTerminal) stdin.setRawMode(true);
  try {
    let text = "";
    for await (const chunk of stdin as AsyncIterable<Buffer>) {
      text = typed(text, chunk.toString("utf8"));
      if (/[\r\n]/.test(text) || text.length > bytesMax) break;
    }
    const line = text.split(/[\r\n]/)[0]?.trim() ?? "";
    if (line === "") throw new Error("nothing was entered");
    return line;
  } finally {
    if (isTerminal) {
      stdin.setRawMode(false);
      stderr.write("\n");
    }
    stdin.pause();
  }
}

/** A line that is no secret: from a terminal, which shows it, or standard input. Rejects when that ends without one. */
export async function readLine(prompt: string): Promise<string> {
  const { createInterface } = await import("node:readline/promises");
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  const ended = new AbortController();
  reader.once("close", () => ended.abort());
  try {
    return (await reader.question(prompt, { signal: ended.signal })).trim();
  } catch (error) {
    throw ended.signal.aborted ? new Error("nothing was entered") : error;
  } finally {
    reader.close();
  }
}

/** What is there after these keys: the terminal leaves it to us to take back and to give up. */
function typed(before: string, keys: string): string {
  let text = before;
  for (const key of keys) {
    if (key === "\u0003" || key === "\u0004") throw new Error("nothing was entered");
    if (key === "\u007f" || key === "\b") text = text.slice(0, -1);
    else text += key;
  }
  return text;
}
