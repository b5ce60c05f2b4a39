// What one network's nodes have to know of names and addresses, kept up to date task by task and service by service.

import { isDeepStrictEqual } from "node:util";
import { codec } from "../../proto/codec.ts";
import type {
  Assignment,
  AssignmentKey,
  Endpoint,
  ToAgent,
  VirtualService,
} from "../../proto/gen/types.ts";
import { packed } from "../../proto/packed.ts";
import { endpoints, endpointsOf, virtualServices, virtualServicesOf } from "../plan/endpoints.ts";
import type { State } from "../store/types.ts";
import { keyOf } from "./assign.ts";

/** Part of a ToAgent message, encoded once for all sessions it goes to. */
export interface FeedPart {
  readonly bytes: Uint8Array;
  /** The same for agents that unpack. */
  readonly packed: Uint8Array;
  /** Nothing has to be sent. */
  readonly isEmpty: boolean;
}

/** The endpoints and services of one network as all its sessions know them. */
export class Feed {
  readonly networkId: string;
  readonly #services = new Map<string, VirtualService>();
  readonly #endpoints = new Map<string, Endpoint>();
  #all: FeedPart | null = null;

  constructor(networkId: string, state: State) {
    this.networkId = networkId;
    for (const service of virtualServices(state, networkId))
      this.#services.set(service.ServiceID, service);
    for (const endpoint of endpoints(state, networkId))
      this.#endpoints.set(endpoint.TaskID, endpoint);
  }

  /** For a session that has nothing of this network yet. */
  all(): FeedPart {
    this.#all ??= part(
      [
        ...[...this.#services.values()].map(serviceAssignment),
        ...[...this.#endpoints.values()].map(endpointAssignment),
      ],
      [],
    );
    return this.#all;
  }

  /** For a session that has all of this network but what has become of these tasks and services. */
  missed(taskIds: Iterable<string>, serviceIds: Iterable<string>): FeedPart {
    const set: Assignment[] = [];
    const remove: AssignmentKey[] = [];
    for (const id of serviceIds) {
      const service = this.#services.get(id);
      if (service === undefined) remove.push(this.#serviceKey(id));
      else set.push(serviceAssignment(service));
    }
    for (const id of taskIds) {
      const endpoint = this.#endpoints.get(id);
      if (endpoint === undefined) remove.push(this.#endpointKey(id));
      else set.push(endpointAssignment(endpoint));
    }
    return part(set, remove);
  }

  /** For a session that leaves the network. */
  keys(): readonly AssignmentKey[] {
    return [
      ...[...this.#services.keys()].map((id) => this.#serviceKey(id)),
      ...[...this.#endpoints.keys()].map((id) => this.#endpointKey(id)),
    ];
  }

  /** Looks again at these tasks and services; gives what has become different. */
  refresh(state: State, taskIds: Iterable<string>, serviceIds: Iterable<string>): FeedPart {
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
    const changed = part(set, remove);
    if (!changed.isEmpty) this.#all = null;
    return changed;
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

/** Only the lists: what else a message says comes from the part that is the session's own. */
function part(set: readonly Assignment[], remove: readonly AssignmentKey[]): FeedPart {
  const isEmpty = set.length === 0 && remove.length === 0;
  // A partial message on purpose; absent fields are not encoded.
  const message = { Set: set, Remove: remove } as unknown as ToAgent;
  const bytes = isEmpty ? new Uint8Array() : codec("ToAgent").encode(message);
  return { isEmpty, bytes, packed: packed(bytes) };
}

function serviceAssignment(service: VirtualService): Assignment {
  return { Key: keyOf("service", `${service.NetworkID}/${service.ServiceID}`), Service: service };
}

function endpointAssignment(endpoint: Endpoint): Assignment {
  return { Key: keyOf("endpoint", `${endpoint.NetworkID}/${endpoint.TaskID}`), Endpoint: endpoint };
}
