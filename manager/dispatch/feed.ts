// What one network's nodes have to know of names and addresses, kept up to date task by task and service by service.

import { isDeepStrictEqual } from "node:util";
import type { Assignment, AssignmentKey, Endpoint, VirtualService } from "../../proto/gen/types.ts";
import { endpoints, endpointsOf, virtualServices, virtualServicesOf } from "../plan/endpoints.ts";
import type { State } from "../store/types.ts";
import { keyOf } from "./assign.ts";
import { Journal, type Part, partOf } from "./journal.ts";

/** The endpoints and services of one network as all its sessions know them. */
export class Feed {
  readonly networkId: string;
  readonly #journal: Journal;

  constructor(networkId: string, state: State) {
    this.networkId = networkId;
    this.#journal = new Journal(state.index, [
      ...virtualServices(state, networkId).map(serviceAssignment),
      ...endpoints(state, networkId).map(endpointAssignment),
    ]);
  }

  /** What was removed before that index is not known here. */
  get from(): number {
    return this.#journal.from;
  }

  /** Of a session that has been told all, or all through an index of the state that is not before `from`. */
  positionAt(index = Number.POSITIVE_INFINITY): number {
    return this.#journal.positionAt(index);
  }

  /** Encodes a piece of what comes after that position; false when all is. */
  prepare(position: number): boolean {
    return this.#journal.prepare(position);
  }

  /** For a session that has all of this network through a position; 0 for nothing. */
  after(position: number): readonly Part[] {
    return this.#journal.after(position);
  }

  /** For a session that has all of this network but what has become of these tasks and services. */
  missed(taskIds: Iterable<string>, serviceIds: Iterable<string>): readonly Part[] {
    const set: Assignment[] = [];
    const remove: AssignmentKey[] = [];
    const keys = [
      ...[...serviceIds].map((id) => this.#serviceKey(id)),
      ...[...taskIds].map((id) => this.#endpointKey(id)),
    ];
    for (const key of keys) {
      const assignment = this.#journal.get(key);
      if (assignment === undefined) remove.push(key);
      else set.push(assignment);
    }
    return keys.length === 0 ? [] : [partOf(set, remove)];
  }

  /** For a session that leaves the network, of which it has been told through that position. */
  keys(told: number): readonly AssignmentKey[] {
    return this.#journal.keys(told);
  }

  /** Looks again at these tasks and services. Whether anything has become different. */
  refresh(state: State, taskIds: Iterable<string>, serviceIds: Iterable<string>): boolean {
    const set: Assignment[] = [];
    const remove: AssignmentKey[] = [];
    for (const id of serviceIds) {
      const now = this.#serviceNow(state, id);
      const was = this.#journal.get(this.#serviceKey(id))?.Service;
      if (now === undefined) {
        if (was !== undefined) remove.push(this.#serviceKey(id));
      } else if (!isDeepStrictEqual(now, was)) set.push(serviceAssignment(now));
    }
    for (const id of taskIds) {
      const now = this.#endpointNow(state, id);
      const was = this.#journal.get(this.#endpointKey(id))?.Endpoint;
      if (now === undefined) {
        if (was !== undefined) remove.push(this.#endpointKey(id));
      } else if (!isDeepStrictEqual(now, was)) set.push(endpointAssignment(now));
    }
    this.#journal.append(state.index, set, remove);
    return set.length + remove.length > 0;
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
