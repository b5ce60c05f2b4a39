// Nodes at the control door.

import type { Cluster, Node, NodeSpec } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { Handlers } from "../../proto/rpc-server.ts";
import { asManager, banned, withSpec } from "../identity/admit.ts";
import { clusterOf } from "../identity/join.ts";
import { checkDemotion } from "../identity/managers.ts";
import type { Change, State } from "../store/types.ts";
import { type ControlContext, change, fresh, isStale } from "./context.ts";
import { checkValue, filterBy, hasLabel, type Matchers } from "./filters.ts";
import { find, hostnameOf } from "./find.ts";

type NodeHandlers = Pick<
  Handlers<"Control">,
  "GetNode" | "ListNodes" | "UpdateNode" | "RemoveNode"
>;

export function nodeHandlers(context: ControlContext): NodeHandlers {
  return {
    GetNode: async (request, caller) => {
      const node = find(await fresh(context, caller), "node", request.ID);
      return isStale(caller) ? withoutLeader(node) : node;
    },
    ListNodes: async (request, caller) => {
      const state = await fresh(context, caller);
      const passes = filterBy(request.Filters, matchers);
      const nodes = [...state.table("node").values()].filter(passes);
      return { Items: isStale(caller) ? nodes.map(withoutLeader) : nodes };
    },
    UpdateNode: (request, caller) =>
      change(context, caller, (state) => {
        const node = find(state, "node", request.ID);
        checkSpecVersion(node, request.Version);
        const spec = request.Spec ?? node.Spec;
        check(state, node, spec);
        const changed = spec === undefined ? node : withSpec(node, spec);
        const object = spec?.Role === "manager" ? asManager(changed) : changed;
        return { changes: [{ op: "put", kind: "node", object }], result: {} };
      }),
    RemoveNode: (request, caller) =>
      change(context, caller, (state) => ({
        changes: removeNode(
          clusterOf(state),
          find(state, "node", request.ID),
          request.Force,
          context.world.now(),
        ),
        result: {},
      })),
  };
}

/**
 * As `checkVersion`, but a node is written whenever its status changes: who has seen the Spec that it has now may change it. Docker's
 * command reads and writes in two steps.
 */
function checkSpecVersion(node: Node, version: number): void {
  const isSeen = version > (node.SpecBase ?? 0) && version <= (node.Version?.Index ?? 0);
  if (!isSeen) throw new SwarmError("invalid", "update out of sequence");
}

/** What was known of the managers does not hold when none of them leads. */
function withoutLeader(node: Node): Node {
  const status = node.ManagerStatus;
  if (status === undefined) return node;
  return { ...node, ManagerStatus: { ...status, Leader: false, Reachability: "unknown" } };
}

const matchers: Matchers<Node> = {
  id: (node, value) => node.ID.startsWith(value),
  name: (node, value) => hostnameOf(node).startsWith(value) || (node.Spec?.Name ?? "") === value,
  label: (node, value) => hasLabel(node.Description?.Engine?.Labels, value),
  "node.label": (node, value) => hasLabel(node.Spec?.Labels, value),
  role: (node, value) => {
    checkValue("role", value, ["worker", "manager"]);
    return node.Spec?.Role === value;
  },
  membership: (_node, value) => {
    checkValue("membership", value, ["accepted", "pending"]);
    return value === "accepted";
  },
};

function check(state: State, node: Node, spec: NodeSpec | undefined): void {
  const { Role, Availability } = spec ?? { Role: "", Availability: "" };
  if (!["worker", "manager"].includes(Role))
    throw new SwarmError("invalid", `invalid Role: ${JSON.stringify(Role)}`);
  if (!["active", "pause", "drain"].includes(Availability))
    throw new SwarmError("invalid", `invalid Availability: ${JSON.stringify(Availability)}`);
  if (Role === node.Spec?.Role) return;
  if (Role === "worker") checkDemotion(state, node);
}

/**
 * Its tasks go with it: the planner replaces them, as their addresses are free now. Its connections end, and its certificate counts no
 * more.
 */
function removeNode(cluster: Cluster, node: Node, isForced: boolean, now: number): Change[] {
  if (node.ManagerStatus !== undefined || node.Spec?.Role === "manager")
    throw new SwarmError(
      "precondition",
      `node ${node.ID} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal`,
    );
  if (!isForced && node.Status?.State !== "down")
    throw new SwarmError(
      "precondition",
      `node ${node.ID} is not down and can't be removed: leave the swarm on it first, or use --force`,
    );
  return [
    { op: "delete", kind: "node", id: node.ID, base: node.Version?.Index ?? 0 },
    ...banned(cluster, node, now),
  ];
}
