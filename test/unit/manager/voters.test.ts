import assert from "node:assert/strict";
import { test } from "node:test";
import type { Change } from "../../../manager/store/types.ts";
import { levelOf, type Members, nextStep, statusOf } from "../../../manager/voters.ts";
import { codec } from "../../../proto/codec.ts";
import { memoryStore } from "./memory-store.ts";

interface Shape {
  readonly role: "manager" | "worker";
  /** "" has not said where it is; null: no manager as far as its object says. */
  readonly addr: string | null;
  readonly level?: number;
}

function putNode(ID: string, { role, addr, level = 1 }: Shape): Change {
  const object = codec("Node").parse({
    ID,
    Spec: { Role: role, Availability: "active" },
    ...(addr === null ? {} : { ManagerStatus: { Addr: addr, FeatureLevel: level } }),
  });
  return { op: "put", kind: "node", object };
}

async function stateOf(nodes: Readonly<Record<string, Shape>>) {
  const changes = Object.entries(nodes).map(([id, shape]) => putNode(id, shape));
  return (await memoryStore(changes)).state;
}

function members(part: Partial<Members>): Members {
  return {
    self: "a",
    voters: ["a"],
    learners: [],
    outgoing: [],
    last: 1_000,
    followers: [],
    ...part,
  };
}

const manager: Shape = { role: "manager", addr: "10.0.0.1:2377" };
const demoted: Shape = { role: "worker", addr: "10.0.0.1:2377" };
const follower = (id: string, match: number, isActive = true) => ({ id, match, isActive });

const rows: readonly {
  readonly name: string;
  readonly nodes: Readonly<Record<string, Shape>>;
  readonly members: Partial<Members>;
  readonly step: ReturnType<typeof nextStep>;
}[] = [
  {
    name: "a manager that has said where it is becomes a learner",
    nodes: { a: manager, b: manager },
    members: {},
    step: { do: "learn", id: "b" },
  },
  {
    name: "one that has not said so is waited for",
    nodes: { a: manager, b: { role: "manager", addr: "" }, c: { role: "manager", addr: null } },
    members: {},
    step: null,
  },
  {
    name: "a learner that has caught up is promoted",
    nodes: { a: manager, b: manager },
    members: { learners: ["b"], followers: [follower("b", 990)] },
    step: { do: "promote", id: "b" },
  },
  {
    name: "a learner far behind is not",
    nodes: { a: manager, b: manager },
    members: { learners: ["b"], followers: [follower("b", 100)] },
    step: null,
  },
  {
    name: "nor is one that does not answer",
    nodes: { a: manager, b: manager },
    members: { learners: ["b"], followers: [follower("b", 990, false)] },
    step: null,
  },
  {
    name: "a demoted manager is removed, before others are added",
    nodes: { a: manager, b: demoted, c: manager },
    members: { voters: ["a", "b"], followers: [follower("b", 1_000)] },
    step: { do: "remove", id: "b" },
  },
  {
    name: "one whose node is gone is removed",
    nodes: { a: manager },
    members: { voters: ["a", "b"], followers: [follower("b", 1_000, false)] },
    step: { do: "remove", id: "b" },
  },
  {
    name: "a demoted leader hands over",
    nodes: { a: demoted, b: manager },
    members: { voters: ["a", "b"], followers: [follower("b", 1_000)] },
    step: { do: "handOver" },
  },
  {
    name: "while a change is under way nothing else begins",
    nodes: { a: manager, b: demoted },
    members: { voters: ["a"], outgoing: ["a", "b"] },
    step: null,
  },
];

for (const row of rows)
  test(row.name, async () => {
    assert.deepEqual(nextStep(await stateOf(row.nodes), members(row.members)), row.step);
  });

test("a node object says who leads and who answers, and nothing of one that is out", async () => {
  const state = await stateOf({ a: manager, b: manager, c: manager, d: demoted, e: manager });
  const now = members({
    voters: ["a", "b", "c"],
    followers: [follower("b", 1_000), follower("c", 900, false)],
  });
  const said = (id: string, isSettled = true) => {
    const node = state.table("node").get(id);
    assert.ok(node !== undefined);
    const status = statusOf(node, now, isSettled);
    return status === undefined ? "none" : `${status.Leader} ${status.Reachability}`;
  };
  assert.deepEqual(
    ["a", "b", "c", "d", "e"].map((id) => said(id)),
    ["true reachable", "false reachable", "false unreachable", "none", "false unknown"],
  );
  assert.equal(said("c", false), "false ", "a new leader does not know yet who answers");
});

test("the feature level is what all managers know, and does not go back", async () => {
  const cluster = codec("Cluster").parse({ ID: "c1", FeatureLevel: 2 });
  const level = async (...levels: readonly number[]) => {
    const nodes = levels.map((one, n) => [`n${n}`, { ...manager, level: one }] as const);
    return levelOf(await stateOf(Object.fromEntries(nodes)), cluster);
  };
  assert.equal(await level(3, 3), 3);
  assert.equal(await level(3, 2), 2);
  assert.equal(await level(3, 1), 2);
  assert.equal(await level(), 2);
});
