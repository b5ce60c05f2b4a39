// Networks whose containers are on a link of the host (macvlan, ipvlan): what was asked for, with Docker's words and checks. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { DirectLink } from "../network/types.ts";

export type LocalDriver = "bridge" | DirectLink["kind"];
export const localDrivers: readonly LocalDriver[] = ["bridge", "macvlan", "ipvlan"];

const macvlanModes = ["bridge", "private", "vepa", "passthru"] as const;
const ipvlanModes = ["l2", "l3", "l3s"] as const;
const ipvlanFlags = ["bridge", "private", "vepa"] as const;

type Options = Readonly<Record<string, string>>;

/** Null for a bridge network. Throws `precondition` with Docker's sentences. Other options mean nothing, as there. */
export function directLink(driver: LocalDriver, options: Options): DirectLink | null {
  if (driver === "bridge") return null;
  const parent = options["parent"] ?? "";
  const link =
    driver === "macvlan"
      ? { parent, kind: driver, mode: choice(driver, "mode", macvlanModes, options) }
      : {
          ...{ parent, kind: driver, mode: choice(driver, "mode", ipvlanModes, options) },
          flag: choice(driver, "flag", ipvlanFlags, options),
        };
  if (parent === "lo") throw wrong(`loopback interface is not a valid ${driver} parent link`);
  return link;
}

function choice<T extends string>(
  driver: string,
  what: string,
  values: readonly [T, ...T[]],
  options: Options,
): T {
  const asked = options[`${driver}_${what}`] || values[0];
  const found = values.find((value) => value === asked);
  if (found !== undefined) return found;
  const usual = what === "mode" ? `'${values[0]}' mode` : `'${values[0]}'`;
  throw wrong(
    `requested ${driver} ${what} '${asked}' is not valid, ${usual} is the ${driver} driver default`,
  );
}

/**
 * Whether it can be on its parent beside the networks that are there already: of macvlan's several, but for mode passthru; of
 * ipvlan's one. Throws `precondition`.
 */
export function checkParent(
  link: DirectLink,
  others: readonly { readonly id: string; readonly link: DirectLink | null }[],
): void {
  if (link.parent === "") return;
  for (const { id, link: other } of others) {
    // Of macvlan and ipvlan on one link the kernel has one at a time: which, the first container's start decides.
    if (other?.parent !== link.parent || other.kind !== link.kind) continue;
    if (link.kind === "ipvlan")
      throw wrong(`network dm-${id.slice(0, 12)} is already using parent interface ${link.parent}`);
    if (link.mode === "passthru")
      throw wrong(
        `cannot use mode passthru, macvlan network ${id} is already using parent interface ${link.parent}`,
      );
    if (other.mode === "passthru")
      throw wrong(
        `macvlan network ${id} is already using parent interface ${link.parent} in mode passthru`,
      );
  }
}

/** Whether a default route leads to an address of the network, so that one is set aside for it. */
export function hasGateway(link: DirectLink | null, isInternal: boolean): boolean {
  if (link === null) return true;
  if (link.kind === "ipvlan" && link.mode !== "l2") return false;
  return !isInternal && link.parent !== "";
}

function wrong(message: string): SwarmError {
  return new SwarmError("precondition", message);
}
