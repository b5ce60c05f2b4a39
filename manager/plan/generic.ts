// Generic resources: things of a node that are counted, or named one by one, and reserved by kind.

import type { GenericResource, Node, ServiceSpec, Task } from "../../proto/gen/types.ts";

/** How many of each kind. */
export type Amounts = ReadonlyMap<string, number>;

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
export function wantedOf(spec: ServiceSpec | undefined): Amounts {
  return amountsOf(spec?.TaskTemplate?.Resources?.Reservations?.GenericResources ?? []);
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
  wanted: Amounts,
  freed: readonly Task[],
): boolean {
  if (wanted.size === 0) return true;
  const has = amountsOf(node.Description?.Resources?.GenericResources ?? []);
  const back = amountsOf(freed.flatMap((task) => task.GenericResources));
  return [...wanted].every(
    ([kind, count]) =>
      (held.amounts.get(kind) ?? 0) - (back.get(kind) ?? 0) + count <= (has.get(kind) ?? 0),
  );
}

/** Which of the node's a task gets: those with names one by one. */
export function claim(
  node: Node,
  held: Held,
  wanted: Amounts,
  freed: readonly Task[],
): readonly GenericResource[] {
  const back = new Set(
    freed
      .flatMap((task) => task.GenericResources)
      .flatMap(({ NamedResourceSpec }) =>
        NamedResourceSpec === undefined ? [] : keyOf(NamedResourceSpec),
      ),
  );
  const all = node.Description?.Resources?.GenericResources ?? [];
  return [...wanted].flatMap(([Kind, Value]): readonly GenericResource[] => {
    const named = all.flatMap(({ NamedResourceSpec: one }) => (one?.Kind === Kind ? one : []));
    if (named.length === 0) return [{ DiscreteResourceSpec: { Kind, Value } }];
    const free = named.filter((one) => !held.named.has(keyOf(one)) || back.has(keyOf(one)));
    return free.slice(0, Value).map((NamedResourceSpec) => ({ NamedResourceSpec }));
  });
}

function keyOf({ Kind, Value }: { readonly Kind: string; readonly Value: string }): string {
  return `${Kind}=${Value}`;
}
