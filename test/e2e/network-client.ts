// Connects to an address again and again, one connection at a time, until its standard input ends; then tells how it went.

import { once } from "node:events";
import { connect } from "node:net";

const [address = "", port = ""] = process.argv.slice(2);
const answerMsMax = 2_000;
const failures: string[] = [];
let answered = 0;
let isAsked = true;
process.stdin.once("end", () => {
  isAsked = false;
});
process.stdin.resume();

while (isAsked) {
  const socket = connect({ host: address, port: Number(port) });
  socket.setTimeout(answerMsMax, () => socket.destroy(new Error("no answer in time")));
  let heard = "";
  socket.on("data", (chunk) => {
    heard += String(chunk);
  });
  try {
    await once(socket, "close");
    if (heard === "") failures.push("closed without an answer");
    else answered += 1;
  } catch (error) {
    failures.push(error instanceof Error ? error.message : String(error));
  }
  socket.destroy();
}
process.stdout.write(JSON.stringify({ answered, failures: failures.slice(0, 10) }));
