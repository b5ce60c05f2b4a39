// Broken rules stop the process: going on would only spread the damage.

/** Throws when a rule of ours does not hold. `rule` reads as the fact that should be true. */
export function assertThat(fact: boolean, rule: string): asserts fact {
  if (!fact) throw new AssertionError(rule);
}

/** Ends a switch over a union: the compiler proves that nothing arrives here. */
export function unreachable(value: never): never {
  throw new AssertionError(`no case for ${JSON.stringify(value)}`);
}

export class AssertionError extends Error {
  constructor(rule: string) {
    super(`broken rule: ${rule}`);
    this.name = "AssertionError";
  }
}
