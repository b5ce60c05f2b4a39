import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { holderOf, socketsAt } from "../../../../agent/network/port-holder.ts";

const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0
   2: 00000000:9F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0
`;
const udp = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  10: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 444 2 0 0
`;

test("of a port's TCP sockets those that listen have it, of UDP all", () => {
  assert.deepEqual(socketsAt(tcp, 8080), ["111"]);
  assert.deepEqual(socketsAt(tcp, 80), []);
  assert.deepEqual(socketsAt(udp, 53), ["444"]);
  assert.deepEqual(socketsAt("", 53), []);
});

test("the program that has a port is named", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  assert.match(
    holderOf({ protocol: "tcp", port, family: 4, hostIP: "" }),
    new RegExp(`\\(process ${process.pid}\\)$`),
  );
  server.close();
  await once(server, "close");
  assert.equal(holderOf({ protocol: "tcp", port, family: 4, hostIP: "" }), "a program");
});
