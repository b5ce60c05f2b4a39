import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import type { LocalNode } from "../../../agent/api/types.ts";
import { NodeDoctor, ofDifference, ofPeer } from "../../../agent/doctor.ts";
import type { Difference, NetworkCheck, SilentPeer } from "../../../agent/network/types.ts";

const signal = new AbortController().signal;
const lost: Difference = {
  ...{ what: "route", where: "R", sentence: "R lacks the route A", how: "missing", wanted: "A" },
};
const stuck: Difference = {
  ...{ what: "namespace", where: "C", sentence: "C lacks the namespace P" },
  ...{ how: "missing", wanted: "P" },
};
const peer: SilentPeer = {
  ...{ nodeId: "n2", hostname: "h2", dataPathAddr: "192.0.2.2", dataPathPort: 4789 },
  ...{ answersSmall: false, packetBytes: 1500 },
};

function network(
  looks: readonly (readonly Difference[])[],
  peers: readonly SilentPeer[] = [],
): NetworkCheck {
  const left = [...looks];
  const look = () => Promise.resolve(left.shift() ?? []);
  return {
    check: look,
    repair: look,
    checkSoon: () => {},
    silentPeers: async () => peers,
    obstacles: () => [],
  };
}

function local(managers: readonly string[], more: Partial<LocalNode> = {}): () => LocalNode {
  return () => ({
    ...{ state: "active", error: "", nodeId: "n1", nodeAddr: "", clusterId: "", isManager: false },
    managers: managers.map((Addr) => ({ NodeID: "", Addr })),
    ...more,
  });
}

test("a node whose networks, peers and managers are well has no findings", async () => {
  const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const doctor = new NodeDoctor(network([[]]), local([`127.0.0.1:${port}`]));
  assert.deepEqual(await doctor.examine({ repair: false }, signal), {
    ...{ NodeID: "n1", LocalNodeState: "active", Findings: [] },
  });
  server.close();
});

test("a manager that does not answer is named with the port to open", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  const doctor = new NodeDoctor(network([[]]), local([`127.0.0.1:${port}`]));
  const { Findings } = await doctor.examine({ repair: false }, signal);
  assert.deepEqual(
    Findings.map(({ What, Sentence }) => `${What}: ${Sentence}`),
    [
      `manager: the manager at 127.0.0.1:${port} does not answer (ECONNREFUSED): open TCP port ${port} on it, and see that it runs`,
    ],
  );
});

const peerRows = [
  {
    name: "that does not answer",
    peer,
    sentence:
      "h2 (192.0.2.2) does not answer over the overlay: open UDP port 4789 between the nodes, in both directions, and see that it runs",
  },
  {
    name: "behind a narrow path",
    peer: { ...peer, answersSmall: true },
    sentence:
      "h2 (192.0.2.2) answers small packets over the overlay but none of full size: the way there has to pass 1500 bytes in one packet; else start the daemons with a smaller --mtu",
  },
];
for (const row of peerRows)
  test(`a peer ${row.name} is told with what to do`, async () => {
    const doctor = new NodeDoctor(network([[]], [row.peer]), local([]));
    const { Findings } = await doctor.examine({ repair: false }, signal);
    assert.deepEqual(Findings, [ofPeer(row.peer)]);
    assert.equal(Findings[0]?.Sentence, row.sentence);
  });

test("after a repair a second look tells what is left", async () => {
  const doctor = new NodeDoctor(network([[lost, stuck], [stuck]]), local([]));
  const { Findings } = await doctor.examine({ repair: true }, signal);
  assert.deepEqual(Findings, [{ ...ofDifference(lost), Repaired: true }, ofDifference(stuck)]);
});

test("a node that its managers refuse is told so", async () => {
  const refused = local([], { state: "error", error: "it was removed from the swarm" });
  const { Findings } = await new NodeDoctor(network([[]]), refused).examine(
    { repair: false },
    signal,
  );
  assert.deepEqual(
    Findings.map(({ Sentence }) => Sentence),
    ["the managers refuse this node: it was removed from the swarm"],
  );
});
