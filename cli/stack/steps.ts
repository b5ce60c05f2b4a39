// The words a plan is made of: what the cluster has, and the steps from there to what is wanted.

import type { Service, ServiceSpec } from "../../proto/gen/types.ts";
import type { Body } from "../body.ts";
import type { Difference } from "./compare.ts";
import type { Condition } from "./project.ts";
import type { FileKind } from "./wanted.ts";

export interface HadNetwork {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** As GET /networks shows it. */
  readonly body: Readonly<Record<string, unknown>>;
}

export interface HadFile {
  readonly kind: FileKind;
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly spec: Readonly<Record<string, unknown>>;
}

/** Everything of the cluster that a stack may touch or name. */
export interface Had {
  readonly networks: readonly HadNetwork[];
  /** The newest of each name. */
  readonly files: readonly HadFile[];
  /** Of this stack alone. */
  readonly services: readonly Body<Service>[];
}

export type Step =
  | {
      readonly do: "create-network";
      readonly name: string;
      readonly body: Readonly<Record<string, unknown>>;
    }
  | { readonly do: "remove-network"; readonly name: string; readonly id: string }
  | {
      readonly do: "create-file";
      readonly kind: FileKind;
      readonly name: string;
      readonly body: Readonly<Record<string, unknown>>;
    }
  | {
      readonly do: "rotate-file";
      readonly kind: FileKind;
      readonly name: string;
      readonly id: string;
      /** Base64. */
      readonly data: string;
      readonly labels: Readonly<Record<string, string>>;
    }
  | {
      readonly do: "relabel-file";
      readonly kind: FileKind;
      readonly name: string;
      readonly id: string;
      readonly labels: Readonly<Record<string, string>>;
    }
  | {
      readonly do: "remove-file";
      readonly kind: FileKind;
      readonly name: string;
      readonly id: string;
    }
  /** Until `name` has come as far as those that depend on it ask for. */
  | {
      readonly do: "wait";
      readonly name: string;
      readonly condition: Condition;
      /** By this plan: what became of an update of it is ours. */
      readonly isWritten: boolean;
      readonly for: string;
    }
  | { readonly do: "create-service"; readonly name: string; readonly spec: Body<ServiceSpec> }
  | {
      readonly do: "update-service";
      readonly name: string;
      readonly id: string;
      readonly version: number;
      readonly spec: Body<ServiceSpec>;
      readonly differences: readonly Difference[];
    }
  | { readonly do: "leave-service"; readonly name: string; readonly id: string }
  | { readonly do: "remove-service"; readonly name: string; readonly id: string };

export interface Plan {
  /** Networks, secrets and configs first: services name them. */
  readonly before: readonly Step[];
  readonly services: readonly Step[];
  readonly after: readonly Step[];
  /** What differs and cannot be changed. */
  readonly notes: readonly string[];
}
