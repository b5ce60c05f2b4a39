import assert from "node:assert/strict";
import { test } from "node:test";
import { NodeOverlayDoor } from "../../../agent/overlay-door.ts";
import type { Wanted } from "../../../agent/session/types.ts";
import { codec } from "../../../proto/codec.ts";
import type { Task } from "../../../proto/gen/types.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld } from "../../../proto/kit/world.ts";

/** The managers' side: gives addresses, and shows at once what is attached. */
class FakeManagers {
  readonly tasks = new Map<string, Task>();
  readonly said: string[] = [];
  isAway = false;
  isKnown = true;
  readonly #stop = new AbortController();

  door(): NodeOverlayDoor {
    return new NodeOverlayDoor({
      attach: async (request) => {
        this.said.push(`attach ${request.ContainerID} ${request.Names.join(",")}`);
        const id = `t${this.said.length}`;
        const task = codec("Task").parse({
          ID: id,
          Attached: { ContainerID: request.ContainerID, Names: request.Names },
          NetworksAttachments: [
            {
              Network: {
                ID: "net",
                Spec: { Name: request.Network },
                IPAM: { Config: [{ Subnet: "10.1.0.0/24", Gateway: "10.1.0.1" }] },
              },
              Addresses: ["10.1.0.5/24"],
            },
          ],
        });
        this.tasks.set(id, task);
        return task;
      },
      detach: async (ids) => {
        if (this.isAway) throw new Error("no manager answers");
        this.said.push(`detach ${ids.join(",")}`);
        for (const id of ids) this.tasks.delete(id);
      },
      wanted: () => ({ tasks: this.tasks }) as unknown as Wanted,
      untilNetwork: async () => {
        if (!this.isKnown) throw new Error("never");
      },
      containers: () => [],
      world: { ...realWorld, sleep: () => Promise.resolve() },
      log: silentLog,
      signal: this.#stop.signal,
    });
  }

  stop(): void {
    this.#stop.abort();
  }
}

const wish = { aliases: ["www"], address: "" };

test("a container is attached, keeps its address while it runs, and gives it back", async () => {
  const managers = new FakeManagers();
  const door = managers.door();
  const place = await door.attach("c1", "meet", wish, ["srv", "www"]);
  assert.deepEqual(place, {
    ...{ networkId: "net", name: "meet", address: "10.1.0.5" },
    ...{ prefix: 24, gateway: "10.1.0.1" },
  });
  await door.sweep();
  assert.equal(managers.tasks.size, 1);
  await door.release("c1", null);
  assert.deepEqual(managers.said, ["attach c1 srv,www", "detach t1"]);
  await door.release("c1", null);
  assert.equal(managers.said.length, 2, "what holds nothing gives nothing back");
});

test("what an agent before a boot has left is given back", async () => {
  const managers = new FakeManagers();
  await managers.door().attach("c1", "meet", wish, []);
  const next = managers.door();
  await next.sweep();
  assert.equal(managers.tasks.size, 0);
});

test("a manager that is away is asked again", async () => {
  const managers = new FakeManagers();
  const door = managers.door();
  await door.attach("c1", "meet", wish, []);
  managers.isAway = true;
  await door.release("c1", null);
  assert.equal(managers.tasks.size, 1);
  managers.isAway = false;
  while (managers.tasks.size > 0) await new Promise((resolve) => setImmediate(resolve));
  managers.stop();
});

test("a network this node never hears of is a failure, and its address goes back", async () => {
  const managers = new FakeManagers();
  managers.isKnown = false;
  await assert.rejects(
    managers.door().attach("c1", "meet", wish, []),
    /this node has not heard of network meet from the managers in time/,
  );
  assert.equal(managers.tasks.size, 0);
});
