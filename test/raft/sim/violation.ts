// A rule of the simulation that did not hold.

export class Violation extends Error {
  readonly rule: string;

  constructor(rule: string, detail: string) {
    super(`${rule}: ${detail}`);
    this.name = "Violation";
    this.rule = rule;
  }
}

export function mustHold(rule: string, fact: boolean, detail: () => string): asserts fact {
  if (!fact) throw new Violation(rule, detail());
}
