import assert from "node:assert/strict";
import { test } from "node:test";
import { saysAnything, specOver } from "../../../../agent/api/swarm-spec.ts";
import { codec } from "../../../../proto/codec.ts";

const parse = (json: object) => codec("ClusterSpec").parse(json);
const before = parse({
  ...{ Name: "default", Labels: { a: "1" } },
  Orchestration: { TaskHistoryRetentionLimit: 5 },
  CAConfig: { NodeCertExpiry: 7e15, ForceRotate: 1 },
  EncryptionConfig: { AutoLockManagers: true },
});

test("a new cluster by force takes what is asked of it, and keeps the rest", () => {
  const asked = parse({
    Orchestration: { TaskHistoryRetentionLimit: 2 },
    CAConfig: { NodeCertExpiry: 8e15 },
    Dispatcher: { HeartbeatPeriod: 0 },
  });
  assert.deepEqual(specOver(before, asked), {
    ...before,
    Orchestration: { TaskHistoryRetentionLimit: 2 },
    CAConfig: { ...before.CAConfig, NodeCertExpiry: 8e15 },
  });
  assert.deepEqual(specOver(before, parse({ Labels: { b: "2" } })).Labels, { b: "2" });
});

test("a new cluster by force is locked when that is asked, and stays locked when nothing is", () => {
  const open = { ...before, EncryptionConfig: { AutoLockManagers: false } };
  const lock = parse({ EncryptionConfig: { AutoLockManagers: true } });
  assert.deepEqual(specOver(open, lock), before);
  const unsaid = parse({ EncryptionConfig: { AutoLockManagers: false } });
  assert.deepEqual(specOver(before, unsaid), before);
  assert.deepEqual(
    [saysAnything(lock), saysAnything(unsaid), saysAnything(parse({}))],
    [...[true, false, false]],
  );
});
