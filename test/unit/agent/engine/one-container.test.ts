import assert from "node:assert/strict";
import { test } from "node:test";
import { type ContainerParts, OneContainer } from "../../../../agent/engine/one-container.ts";
import type { ContainerFile } from "../../../../agent/engine/records.ts";

test("who changes a container while it is removed is told that it is gone, and its record stays gone", async () => {
  const saved: string[] = [];
  const parts = {
    runtime: { deleteContainer: async () => {}, removeSnapshot: async () => {} },
    attachments: { end: () => {} },
    records: { remove: async () => {}, save: async ({ name }: ContainerFile) => saved.push(name) },
    hub: { emit: () => {} },
  };
  const record = { id: "c1", name: "box", state: { Status: "exited" }, anonymousVolumes: [] };
  const one = new OneContainer(
    parts as unknown as ContainerParts,
    record as unknown as ContainerFile,
    [],
  );
  const removed = one.remove({ force: true, volumes: false }, () => {});
  const changed = one.modify((now) => ({ ...now, name: "other" }), null);
  await removed;
  await assert.rejects(changed, { code: "not_found", message: "No such container: c1" });
  assert.deepEqual(saved, []);
});
