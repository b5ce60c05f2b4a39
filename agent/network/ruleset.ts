// An nftables table as data, and the text that turns one state of it into another in a single transaction.

/** A set (values null) or a map (key → value); `header` holds its type and flags. */
export interface Lookup {
  readonly kind: "set" | "map";
  readonly header: string;
  readonly elements: ReadonlyMap<string, string | null>;
}

/** A chain; `hook` is "" for one that is only jumped to. */
export interface Chain {
  readonly hook: string;
  readonly rules: readonly string[];
}

export interface Table {
  /** ip, inet, netdev */
  readonly family: string;
  readonly name: string;
  readonly lookups: ReadonlyMap<string, Lookup>;
  readonly chains: ReadonlyMap<string, Chain>;
}

/** The whole table, in place of one that may be there: what is established goes on, what is new meets the new rules. */
export function renderTable(table: Table): string {
  const name = `${table.family} ${table.name}`;
  return `add table ${name}\ndelete table ${name}\n${renderNewTable(table)}`;
}

/** The whole table, where there is none of its name. */
export function renderNewTable(table: Table): string {
  const lines = [`table ${table.family} ${table.name} {`];
  for (const [key, lookup] of table.lookups) {
    lines.push(` ${lookup.kind} ${key} {`, `  ${lookup.header}`);
    if (lookup.elements.size > 0) lines.push(`  elements = { ${elementsText(lookup)} }`);
    lines.push(" }");
  }
  // Chains are declared before any rule jumps to them, the plain ones first.
  for (const [key, chain] of table.chains) {
    lines.push(` chain ${key} {`);
    if (chain.hook !== "") lines.push(`  ${chain.hook}`);
    for (const rule of chain.rules) lines.push(`  ${rule}`);
    lines.push(" }");
  }
  lines.push("}");
  return `${lines.join("\n")}\n`;
}

/** The text from one state to the next; "" when nothing differs. `before` null: nothing is known of what is there. */
export function renderChange(before: Table | null, after: Table): string {
  if (before === null || !isSameFrame(before, after)) return renderTable(after);
  const name = `${after.family} ${after.name}`;
  const removals: string[] = [];
  const additions: string[] = [];
  const endings: string[] = [];
  for (const [key, chain] of after.chains) {
    const old = before.chains.get(key);
    if (old === undefined) additions.push(`add chain ${name} ${key}`);
    if (old === undefined ? chain.rules.length === 0 : isSameList(old.rules, chain.rules)) continue;
    if (old !== undefined) removals.push(`flush chain ${name} ${key}`);
    for (const rule of chain.rules) endings.push(`add rule ${name} ${key} ${rule}`);
  }
  for (const [key, lookup] of after.lookups) {
    const old = before.lookups.get(key)?.elements ?? new Map<string, string | null>();
    const gone = [...old].filter(([element, value]) => lookup.elements.get(element) !== value);
    const come = [...lookup.elements].filter(([element, value]) => old.get(element) !== value);
    if (gone.length > 0) {
      removals.push(`delete element ${name} ${key} { ${gone.map(([e]) => e).join(", ")} }`);
    }
    if (come.length > 0) {
      const elements = elementsText({ ...lookup, elements: new Map(come) });
      additions.push(`add element ${name} ${key} { ${elements} }`);
    }
  }
  const drops: string[] = [];
  for (const [key] of before.chains) {
    if (after.chains.has(key)) continue;
    removals.push(`flush chain ${name} ${key}`);
    drops.push(`delete chain ${name} ${key}`);
  }
  const lines = [...removals, ...additions, ...endings, ...drops];
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** Whether the two differ in plain chains and elements only: anything else is replaced whole. */
function isSameFrame(before: Table, after: Table): boolean {
  const hooks = (table: Table) =>
    [...table.chains].filter(([, chain]) => chain.hook !== "").map(([k, c]) => `${k} ${c.hook}`);
  const headers = (table: Table) =>
    [...table.lookups].map(([key, lookup]) => `${lookup.kind} ${key} ${lookup.header}`);
  return (
    before.family === after.family &&
    before.name === after.name &&
    isSameList(hooks(before), hooks(after)) &&
    isSameList(headers(before), headers(after))
  );
}

function elementsText(lookup: Lookup): string {
  return [...lookup.elements]
    .map(([key, value]) => (value === null ? key : `${key} : ${value}`))
    .join(", ");
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i]);
}
