// Which link of the host a direct network is on: one that is there, or one of a VLAN on it. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { Link } from "./links.ts";

const vlanMax = 4094;

export type ParentPlan =
  | { readonly do: "use"; readonly index: number }
  | { readonly do: "make"; readonly name: string; readonly vlan: number; readonly over: number };

/** `name` is a link's, or a link's and the VLAN's number (`eth0.10`). Throws `precondition` with Docker's sentences. */
export function planParent(name: string, links: readonly Link[]): ParentPlan {
  const find = (wanted: string) => links.find((link) => link.name === wanted);
  const found = find(name);
  if (found !== undefined) return { do: "use", index: found.index };
  const parts = name.split(".");
  const [link = "", number = ""] = parts;
  if (parts.length === 1)
    throw wrong(
      `invalid subinterface vlan name ${name}, example formatting is eth0.10: this host has no link ${name}`,
    );
  if (parts.length > 2)
    throw wrong(
      `required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received ${name}`,
    );
  if (!/^\d{1,9}$/.test(number))
    throw wrong(`unable to parse a valid vlan id from: ${number} (ex. eth0.10 for vlan 10)`);
  const over = find(link);
  if (over === undefined) throw wrong(`-o parent interface was not found on the host: ${link}`);
  const vlan = Number(number);
  if (vlan < 1 || vlan > vlanMax)
    throw wrong(`vlan id must be between 1-${vlanMax}, received: ${vlan}`);
  return { do: "make", name, vlan, over: over.index };
}

/** Set on links that we made: others end with nobody's network. */
export const ownAlias = "made by tsswarm";

/** Links that were made for networks which are gone. */
export function leftParents(
  links: readonly Link[],
  wanted: ReadonlySet<string>,
): readonly string[] {
  return links
    .filter(({ kind, alias, name }) => kind === "vlan" && alias === ownAlias && !wanted.has(name))
    .map(({ name }) => name);
}

function wrong(message: string): SwarmError {
  return new SwarmError("precondition", message);
}
