// Connects to an address again and again, one connection at a time, until its standard input ends; then tells how it went.

import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../../proto/kit/errors.ts";

const [address = "", port = ""] = process.argv.slice(2);
const answerMsMax = 10_000;
const failuresKept = 10;
/** After a failure: what is refused is refused at once, and would be asked for thousands of times a second. */
const restMs = 20;

const failures: string[] = [];
let answered = 0;
const over = new AbortController();
process.stdin.once("end", () => over.abort());
process.stdin.resume();

while (!over.signal.aborted) {
  try {
    await request();
    answered += 1;
  } catch (error) {
    if (failures.length < failuresKept) failures.push(messageOf(error));
    await delay(restMs);
  }
}
process.stdout.write(JSON.stringify({ answered, failures }));

async function request(): Promise<void> {
  const socket = connect({ host: address, port: Number(port) });
  socket.setTimeout(answerMsMax, () => socket.destroy(new Error("no answer in time")));
  let heard = "";
  socket.on("data", (chunk) => {
    heard += String(chunk);
  });
  // Who has answered and holds the connection is not waited for.
  const leave = () => {
    if (heard !== "") socket.destroy();
  };
  over.signal.addEventListener("abort", leave);
  try {
    await once(socket, "close");
    if (heard === "") throw new Error("closed without an answer");
  } finally {
    over.signal.removeEventListener("abort", leave);
    socket.destroy();
  }
}
