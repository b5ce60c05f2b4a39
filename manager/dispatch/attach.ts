// Containers made by hand that join an attachable network: a task of no service, which holds an address and has names.

import type { AttachRequest, Network, Task } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { newId } from "../../proto/kit/ids.ts";
import type { Handlers } from "../../proto/rpc-server.ts";
import { speakingNode } from "../identity/admit.ts";
import { AddressPool } from "../plan/addresses.ts";
import { noAddress, withFurtherSubnet } from "../plan/subnets.ts";
import { expandTask } from "../plan/tasks.ts";
import type { Change, State, Store } from "../store/types.ts";

type AttachHandlers = Pick<Handlers<"Dispatch">, "Attach" | "Detach">;

const attachedMax = 1_000;

export function attachHandlers(store: Store): AttachHandlers {
  return {
    Attach: async (request, caller) => {
      const id = newId();
      const { state, result } = await store.writeFrom((now) => {
        const node = speakingNode(now, caller);
        return attach(now, node.ID, request, id);
      }, caller.signal);
      const task = state.table("task").get(result);
      if (task === undefined) throw new SwarmError("conflict", "the network was left meanwhile");
      return expandTask(state, task);
    },
    Detach: async ({ TaskIDs }, caller) => {
      await store.writeFrom((now) => {
        const node = speakingNode(now, caller);
        return { changes: detach(now, node.ID, TaskIDs), result: null };
      }, caller.signal);
      return {};
    },
  };
}

/** The id of the task that holds the address: a new one, or the one there is. */
export function attach(
  state: State,
  nodeId: string,
  request: AttachRequest,
  id: string,
): { readonly changes: readonly Change[]; readonly result: string } {
  const networks = state.table("network");
  const network = networks.get(request.Network) ?? networks.named(request.Network);
  if (network === undefined)
    throw new SwarmError("not_found", `network ${request.Network} not found`);
  const name = network.Spec?.Name ?? network.ID;
  if (network.Spec?.Attachable !== true)
    throw new SwarmError(
      "denied",
      `Could not attach to network ${name}: rpc error: code = PermissionDenied desc = network ${name} not manually attachable`,
    );
  const mine = state.tasksOfNode(nodeId).filter((task) => task.Attached !== undefined);
  const known = mine.find(
    (task) =>
      task.Attached?.ContainerID === request.ContainerID &&
      task.NetworksAttachments[0]?.Network?.ID === network.ID,
  );
  if (known !== undefined) return { changes: [], result: known.ID };
  if (mine.length >= attachedMax)
    throw new SwarmError("exhausted", `node ${nodeId} has ${attachedMax} containers attached`);
  const { addresses, changes } = addressesFor(state, network, request.Address);
  const task = taskOf(nodeId, network, request, addresses, id);
  return { changes: [...changes, { op: "put", kind: "task", object: task }], result: id };
}

/** Of those named, the node's own. */
export function detach(state: State, nodeId: string, taskIds: readonly string[]): Change[] {
  return taskIds.flatMap((id): Change[] => {
    const task = state.table("task").get(id);
    if (task?.Attached === undefined || task.NodeID !== nodeId) return [];
    return [{ op: "delete", kind: "task", id, base: task.Version?.Index ?? 0 }];
  });
}

function addressesFor(
  state: State,
  network: Network,
  wanted: string,
): { readonly addresses: readonly string[]; readonly changes: readonly Change[] } {
  const pool = new AddressPool(state, network);
  if (wanted !== "") {
    const given = pool.take(wanted);
    if (given === null)
      throw new SwarmError(
        "conflict",
        `address ${wanted} is taken, or none of network ${network.Spec?.Name ?? network.ID}`,
      );
    return { addresses: given, changes: [] };
  }
  const addresses = pool.take();
  if (addresses !== null) return { addresses, changes: [] };
  const further = withFurtherSubnet(state, network);
  if ("why" in further) throw new SwarmError("exhausted", noAddress(network, further.why));
  const more = new AddressPool(state, further.network).take();
  if (more === null) throw new SwarmError("exhausted", noAddress(network, "it is full"));
  return { addresses: more, changes: [{ op: "put", kind: "network", object: further.network }] };
}

function taskOf(
  nodeId: string,
  network: Network,
  request: AttachRequest,
  addresses: readonly string[],
  id: string,
): Task {
  const { ID, CreatedAt, UpdatedAt, VNI } = { ...network, CreatedAt: "", UpdatedAt: "", VNI: 0 };
  return {
    ID: id,
    CreatedAt: "",
    UpdatedAt: "",
    Name: request.Names[0] ?? request.ContainerID,
    Labels: {},
    ServiceID: "",
    NodeID: nodeId,
    // Its node makes it run as soon as it has the address.
    Status: { Timestamp: "", State: "running", Message: "attached", Err: "" },
    DesiredState: "running",
    NetworksAttachments: [
      {
        Network: { ID, CreatedAt, UpdatedAt, VNI },
        Addresses: addresses,
        Aliases: request.Aliases,
      },
    ],
    SpecVersion: 0,
    GenericResources: [],
    Ports: [],
    Attached: { ContainerID: request.ContainerID, Names: request.Names },
  };
}
