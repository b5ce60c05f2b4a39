// Placement constraints: "node.role == worker". == and != only, values compare without regard to case.

import type { Node } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { type Address, contains, parseAddress, parseSubnet } from "./ip.ts";

export interface Constraint {
  readonly key: string;
  readonly isEqual: boolean;
  readonly value: string;
}

const keyPattern = /^[a-z0-9_][a-z0-9\-_.]+$/i;
const valuePattern = /^[a-z0-9:\-_\s.*()?+[\]\\^$|/@]+$/i;
const fixedKeys: ReadonlySet<string> = new Set([
  "node.id",
  "node.hostname",
  "node.ip",
  "node.role",
  "node.platform.os",
  "node.platform.arch",
  "service.name",
]);
const labelPrefixes = ["node.labels.", "engine.labels.", "service.labels."];

/** Throws `invalid` naming what is wrong with it. */
export function parseConstraint(text: string): Constraint {
  const match = /^(.*?)(==|!=)(.*)$/s.exec(text);
  if (match === null)
    throw new SwarmError(
      "invalid",
      `constraint expected one operator from ==, !=: ${JSON.stringify(text)}`,
    );
  const key = (match[1] ?? "").trim();
  const value = (match[3] ?? "").trim();
  if (!keyPattern.test(key)) throw new SwarmError("invalid", `key '${key}' is invalid`);
  if (!valuePattern.test(value)) throw new SwarmError("invalid", `value '${value}' is invalid`);
  const lower = key.toLowerCase();
  const isLabel = labelPrefixes.some((prefix) => lower.startsWith(prefix) && lower !== prefix);
  if (!fixedKeys.has(lower) && !isLabel)
    throw new SwarmError(
      "invalid",
      `constraint key '${key}' is not known: node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.NAME, engine.labels.NAME, service.name and service.labels.NAME are`,
    );
  return { key, isEqual: match[2] === "==", value };
}

/** About what else runs on the node, as against the node itself: it counts when a task is placed and evicts none. */
export function isAboutServices({ key }: Constraint): boolean {
  return key.toLowerCase().startsWith("service.");
}

/** Of a constraint about nodes. */
export function matches(constraint: Constraint, node: Node): boolean {
  const key = constraint.key.toLowerCase();
  if (key === "node.ip") return matchesAddress(constraint, node.Status?.Addr ?? "");
  if (key === "node.platform.arch")
    return (
      (architecture(constraint.value) ===
        architecture(node.Description?.Platform?.Architecture ?? "")) ===
      constraint.isEqual
    );
  const actual = attributeOf(constraint.key, node);
  return (actual.toLowerCase() === constraint.value.toLowerCase()) === constraint.isEqual;
}

function attributeOf(key: string, node: Node): string {
  const lower = key.toLowerCase();
  if (lower === "node.id") return node.ID;
  if (lower === "node.hostname") return node.Description?.Hostname ?? "";
  if (lower === "node.role") return node.Spec?.Role ?? "";
  if (lower === "node.platform.os") return node.Description?.Platform?.OS ?? "";
  if (lower.startsWith("node.labels."))
    return node.Spec?.Labels[key.slice("node.labels.".length)] ?? "";
  return node.Description?.Engine?.Labels[key.slice("engine.labels.".length)] ?? "";
}

/** The value is an address or a subnet; anything else matches nothing. */
function matchesAddress(constraint: Constraint, text: string): boolean {
  const address = parseAddress(text);
  if (address === null) return !constraint.isEqual;
  const { value } = constraint;
  const subnet = parseSubnet(value.includes("/") ? value : `${value}/${bitsOf(address)}`);
  return (subnet !== null && contains(subnet, address)) === constraint.isEqual;
}

function bitsOf({ family }: Address): number {
  return family === 4 ? 32 : 128;
}

/** One name for what uname and Go call by several. */
export function architecture(name: string): string {
  const lower = name.toLowerCase();
  if (lower === "x86_64") return "amd64";
  if (lower === "aarch64") return "arm64";
  if (lower === "i386" || lower === "i686") return "386";
  if (lower === "armv7l" || lower === "armv6l") return "arm";
  return lower;
}
