// Generic resources: things of a node that are counted, or named one by one, and reserved by kind.

import type { GenericResource, Node, ServiceSpec, Task } from "../../proto/gen/types.ts";

/** How many of each kind. */
export type Amounts = ReadonlyMap<string, number>;

type Named = NonNullable<GenericResource["NamedResourceSpec"]>;

/** What a task reserves: so many of each kind, and which of them it wants by name. */
export interface WantedGeneric {
  readonly amounts: Amounts;
  readonly named: readonly Named[];
}

/** What is held of a node. */
export interface Held {
  readonly amounts: Map<string, number>;
  /** `kind=value` of those that have names. */
  readonly named: Set<string>;
}

export function nothingHeld(): Held {
  return { amounts: new Map(), named: new Set() };
}

export function copyHeld(held: Held): Held {
  return { amounts: new Map(held.amounts), named: new Set(held.named) };
}

/** What a task of the service reserves. */
export function wantedOf(spec: ServiceSpec | undefined): WantedGeneric {
  const resources = spec?.TaskTemplate?.Resources?.Reservations?.GenericResources ?? [];
  return { amounts: amountsOf(resources), named: namedOf(resources) };
}

function namedOf(resources: readonly GenericResource[]): readonly Named[] {
  return resources.flatMap(({ NamedResourceSpec: one }) => one ?? []);
}

/** Those a task wants by name that the node does not have, or others hold, once the tasks given are gone: `gpu=UUID1`. */
export function namesTaken(
  node: Node,
  held: Held,
  wanted: WantedGeneric,
  freed: readonly Task[],
): readonly string[] {
  const free = new Set(freeNames(node, held, freed).map(keyOf));
  return wanted.named.map(keyOf).filter((key) => !free.has(key));
}

function freeNames(node: Node, held: Held, freed: readonly Task[]): readonly Named[] {
  const back = new Set(namedOf(freed.flatMap((task) => task.GenericResources)).map(keyOf));
  return namedOf(node.Description?.Resources?.GenericResources ?? []).filter(
    (one) => !held.named.has(keyOf(one)) || back.has(keyOf(one)),
  );
}

export function amountsOf(resources: readonly GenericResource[]): Amounts {
  const amounts = new Map<string, number>();
  for (const { NamedResourceSpec, DiscreteResourceSpec } of resources) {
    const kind = NamedResourceSpec?.Kind ?? DiscreteResourceSpec?.Kind ?? "";
    const count = NamedResourceSpec === undefined ? (DiscreteResourceSpec?.Value ?? 0) : 1;
    amounts.set(kind, (amounts.get(kind) ?? 0) + count);
  }
  return amounts;
}

export function hold(held: Held, resources: readonly GenericResource[]): void {
  for (const [kind, count] of amountsOf(resources))
    held.amounts.set(kind, (held.amounts.get(kind) ?? 0) + count);
  for (const { NamedResourceSpec } of resources)
    if (NamedResourceSpec !== undefined) held.named.add(keyOf(NamedResourceSpec));
}

/** Whether the node has room for them, once the tasks given are gone. */
export function hasGeneric(
  node: Node,
  held: Held,
  wanted: WantedGeneric,
  freed: readonly Task[],
): boolean {
  if (wanted.amounts.size === 0) return true;
  const has = amountsOf(node.Description?.Resources?.GenericResources ?? []);
  const back = amountsOf(freed.flatMap((task) => task.GenericResources));
  return (
    [...wanted.amounts].every(
      ([kind, count]) =>
        (held.amounts.get(kind) ?? 0) - (back.get(kind) ?? 0) + count <= (has.get(kind) ?? 0),
    ) && namesTaken(node, held, wanted, freed).length === 0
  );
}

/** Which of the node's a task gets: those it wants by name, then others with names one by one. */
export function claim(
  node: Node,
  held: Held,
  wanted: WantedGeneric,
  freed: readonly Task[],
): readonly GenericResource[] {
  const asked = new Set(wanted.named.map(keyOf));
  const all = namedOf(node.Description?.Resources?.GenericResources ?? []);
  const free = freeNames(node, held, freed);
  return [...wanted.amounts].flatMap(([Kind, Value]): readonly GenericResource[] => {
    if (!all.some((one) => one.Kind === Kind)) return [{ DiscreteResourceSpec: { Kind, Value } }];
    const ofKind = free.filter((one) => one.Kind === Kind);
    const isAsked = (one: Named) => asked.has(keyOf(one));
    const inOrder = [...ofKind.filter(isAsked), ...ofKind.filter((one) => !isAsked(one))];
    return inOrder.slice(0, Value).map((NamedResourceSpec) => ({ NamedResourceSpec }));
  });
}

function keyOf({ Kind, Value }: { readonly Kind: string; readonly Value: string }): string {
  return `${Kind}=${Value}`;
}
