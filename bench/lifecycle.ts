// How long it takes until a service runs, is gone, is updated, or has moved away from a host without power.

import { cost, figuresOf, seconds } from "./cost.ts";
import type { Measurement } from "./measurement.ts";
import type { Figure } from "./record.ts";
import type { Cluster, Task } from "./services.ts";
import { manager, otherWorker, worker } from "./side.ts";

const name = "bench-life";

export const lifecycle: readonly Measurement[] = [
  ...[1, 10, 100].flatMap((count) =>
    [false, true].map(
      (overlay): Measurement => ({
        name: `create-${count}${overlay ? "-overlay" : ""}`,
        run: (cluster) => createAndRemove(cluster, count, overlay),
      }),
    ),
  ),
  ...[false, true].map(
    (overlay): Measurement => ({
      name: overlay ? "update-overlay" : "update",
      run: (cluster) => update(cluster, overlay),
    }),
  ),
  { name: "power", run: losePower },
];

export async function createAndRemove(
  cluster: Cluster,
  count: number,
  overlay: boolean,
): Promise<readonly Figure[]> {
  const where = overlay ? ", overlay" : "";
  try {
    const created = await cost(cluster, async () => {
      await cluster.create({ name, replicas: count, overlay });
      await cluster.untilRunning(name, count);
    });
    const removed = await cost(cluster, () => cluster.remove(name));
    return [
      ...figuresOf(`create ${count} → running${where}`, created),
      ...figuresOf(`rm ${count} → all gone${where}`, removed),
    ];
  } finally {
    await cluster.remove(name);
  }
}

/** One after the other, the old one stopped first. Done when all new ones run. */
async function update(cluster: Cluster, overlay: boolean): Promise<readonly Figure[]> {
  const count = 10;
  const isNew = (task: Task) => task.Spec.ForceUpdate === 1;
  try {
    await cluster.create({ name, replicas: count, overlay });
    await cluster.untilRunning(name, count);
    const updated = await cost(cluster, async () => {
      await cluster.update(name, (spec) => ({
        ...spec,
        TaskTemplate: { ...spec.TaskTemplate, ForceUpdate: 1 },
      }));
      await cluster.untilRunning(name, count, isNew);
    });
    const where = overlay ? ", overlay" : "";
    return figuresOf(`rolling update of ${count}${where}`, updated);
  } finally {
    await cluster.remove(name);
  }
}

/** From the moment the cable is out until all replicas run on the other two hosts. */
async function losePower(cluster: Cluster): Promise<readonly Figure[]> {
  const count = 6;
  const { side } = cluster;
  const lost = await cluster.nodeId(otherWorker);
  try {
    await cluster.create({ name, replicas: count, overlay: false });
    await cluster.untilRunning(name, count);
    const value = await seconds(async () => {
      await side.powerOff(otherWorker);
      await cluster.untilRunning(name, count, (task) => task.NodeID !== lost);
    });
    return [{ name: "worker loses power → replaced", unit: "s", value }];
  } finally {
    await side.powerOn(otherWorker);
    await cluster.untilReady([manager, worker, otherWorker].length);
    await cluster.remove(name);
  }
}
