// What one network's nodes have to know of names and addresses, kept up to date task by task and service by service.

import { isDeepStrictEqual } from "node:util";
import type { Assignment, AssignmentKey, Endpoint, VirtualService } from "../../proto/gen/types.ts";
import { endpoints, endpointsOf, virtualServices, virtualServicesOf } from "../plan/endpoints.ts";
import type { State } from "../store/types.ts";
import { keyOf } from "./assign.ts";

export interface FeedDelta {
  readonly set: readonly Assignment[];
  readonly remove: readonly AssignmentKey[];
}

/** The endpoints and services of one network as all its sessions know them. */
export class Feed {
  readonly networkId: string;
  readonly #services = new Map<string, VirtualService>();
  readonly #endpoints = new Map<string, Endpoint>();

  constructor(networkId: string, state: State) {
    this.networkId = networkId;
    for (const service of virtualServices(state, networkId))
      this.#services.set(service.ServiceID, service);
    for (const endpoint of endpoints(state, networkId))
      this.#endpoints.set(endpoint.TaskID, endpoint);
  }

  /** For a session that has nothing of this network yet. */
  all(): readonly Assignment[] {
    return [
      ...[...this.#services.values()].map(serviceAssignment),
      ...[...this.#endpoints.values()].map(endpointAssignment),
    ];
  }

  /** For a session that leaves the network. */
  keys(): readonly AssignmentKey[] {
    return [
      ...[...this.#services.keys()].map((id) => this.#serviceKey(id)),
      ...[...this.#endpoints.keys()].map((id) => this.#endpointKey(id)),
    ];
  }

  /** Looks again at these tasks and services; gives what has become different. */
  refresh(state: State, taskIds: Iterable<string>, serviceIds: Iterable<string>): FeedDelta {
    const set: Assignment[] = [];
    const remove: AssignmentKey[] = [];
    for (const id of serviceIds) {
      const now = this.#serviceNow(state, id);
      const was = this.#services.get(id);
      if (now === undefined) {
        if (this.#services.delete(id)) remove.push(this.#serviceKey(id));
      } else if (!isDeepStrictEqual(now, was)) {
        this.#services.set(id, now);
        set.push(serviceAssignment(now));
      }
    }
    for (const id of taskIds) {
      const now = this.#endpointNow(state, id);
      const was = this.#endpoints.get(id);
      if (now === undefined) {
        if (this.#endpoints.delete(id)) remove.push(this.#endpointKey(id));
      } else if (!isDeepStrictEqual(now, was)) {
        this.#endpoints.set(id, now);
        set.push(endpointAssignment(now));
      }
    }
    return { set, remove };
  }

  #serviceNow(state: State, id: string): VirtualService | undefined {
    const service = state.table("service").get(id);
    if (service === undefined) return undefined;
    return virtualServicesOf(state, service).find((one) => one.NetworkID === this.networkId);
  }

  #endpointNow(state: State, id: string): Endpoint | undefined {
    const task = state.table("task").get(id);
    if (task === undefined) return undefined;
    return endpointsOf(state, task).find((one) => one.NetworkID === this.networkId);
  }

  #serviceKey(serviceId: string): AssignmentKey {
    return keyOf("service", `${this.networkId}/${serviceId}`);
  }

  #endpointKey(taskId: string): AssignmentKey {
    return keyOf("endpoint", `${this.networkId}/${taskId}`);
  }
}

function serviceAssignment(service: VirtualService): Assignment {
  return { Key: keyOf("service", `${service.NetworkID}/${service.ServiceID}`), Service: service };
}

function endpointAssignment(endpoint: Endpoint): Assignment {
  return { Key: keyOf("endpoint", `${endpoint.NetworkID}/${endpoint.TaskID}`), Endpoint: endpoint };
}
