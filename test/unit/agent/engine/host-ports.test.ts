import assert from "node:assert/strict";
import { test } from "node:test";
import { HostPorts } from "../../../../agent/engine/host-ports.ts";

const port = (publishedPort: number, publishedPortLast?: number) => ({
  protocol: "tcp",
  targetPort: 80,
  publishedPort,
  ...(publishedPortLast === undefined ? {} : { publishedPortLast }),
});
const chosen = (ports: HostPorts, wanted: Parameters<HostPorts["choose"]>[0], taken: number[]) =>
  ports.choose(wanted, taken).map(({ publishedPort }) => publishedPort);

test("a port that was named stays, whoever has it; others are none that is taken, nor each other's", () => {
  const ports = new HostPorts();
  assert.deepEqual(chosen(ports, [port(80), port(0), port(0)], [80, 32_768]), [80, 32_769, 32_770]);
});

test("ports at will go on where the last was given, and begin again at the end", () => {
  const ports = new HostPorts();
  const all = Array.from({ length: 60_999 - 32_768 }, () => port(0));
  assert.equal(chosen(ports, all, []).at(-1), 60_998);
  assert.deepEqual(chosen(ports, [port(0), port(0)], []), [60_999, 32_768]);
});

test("of a range the first that is free is taken, and a full one is said", () => {
  const ports = new HostPorts();
  assert.deepEqual(chosen(ports, [port(8000, 8002), port(8000, 8002)], [8000]), [8001, 8002]);
  assert.throws(() => chosen(ports, [port(8000, 8001)], [8000, 8001]), { code: "exhausted" });
  assert.ok(!("publishedPortLast" in (ports.choose([port(8000, 8001)], [])[0] ?? {})));
});
