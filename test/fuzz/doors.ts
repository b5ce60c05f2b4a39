// Every door at which bytes from elsewhere are read, each with what may come in and what has to come out: an answer, or an error of
// ours with a sentence. Anything else (another error, a hang, something outside its folder) is a finding.

import fc from "fast-check";
import { SwarmError } from "../../proto/kit/errors.ts";

const slowMsMax = 5_000;

export interface Door {
  readonly name: string;
  /** Of a hundred inputs, how many are for it; those that cost little get more. */
  readonly share: number;
  readonly input: fc.Arbitrary<unknown>;
  /** Rejects with a finding. */
  run(input: never): Promise<void> | void;
}

export interface Doors extends AsyncDisposable {
  readonly doors: readonly Door[];
}

export function door<T>(
  name: string,
  share: number,
  input: fc.Arbitrary<T>,
  run: (input: T) => Promise<unknown> | unknown,
): Door {
  return {
    name,
    share,
    input,
    async run(given: T): Promise<void> {
      const before = process.cpuUsage();
      try {
        await run(given);
      } catch (error) {
        if (!(error instanceof SwarmError) || error.message === "") throw error;
      }
      const { user } = process.cpuUsage(before);
      if (user / 1000 > slowMsMax)
        throw new Error(`${name} took ${user / 1000} ms of the processor`);
    },
  };
}

type Edit =
  | { readonly do: "set" | "insert"; readonly at: number; readonly bytes: Uint8Array }
  | { readonly do: "cut" | "repeat"; readonly at: number; readonly length: number };

/** Good bytes with some mischief done to them; now and then bytes that were never good. */
export function mutated(samples: readonly Uint8Array[]): fc.Arbitrary<Buffer> {
  const at = fc.nat(100_000);
  const edit: fc.Arbitrary<Edit> = fc.oneof(
    fc.record({
      do: fc.constantFrom("set" as const, "insert" as const),
      at,
      bytes: fc.uint8Array({ minLength: 1, maxLength: 16 }),
    }),
    fc.record({
      do: fc.constantFrom("cut" as const, "repeat" as const),
      at,
      length: fc.integer({ min: 1, max: 64 }),
    }),
  );
  const edits = fc.array(edit, { minLength: 1, maxLength: 6 });
  const changed = fc
    .tuple(fc.constantFrom(...samples), edits)
    .map(([sample, all]) => all.reduce(apply, Buffer.from(sample)));
  const random = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  return fc.oneof({ weight: 9, arbitrary: changed }, { weight: 1, arbitrary: random });
}

function apply(bytes: Buffer, edit: Edit): Buffer {
  const at = edit.at % (bytes.length + 1);
  const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
  switch (edit.do) {
    case "set":
      return Buffer.concat([head, edit.bytes, tail.subarray(edit.bytes.length)]);
    case "insert":
      return Buffer.concat([head, edit.bytes, tail]);
    case "cut":
      return Buffer.concat([head, tail.subarray(edit.length)]);
    case "repeat":
      return Buffer.concat([head, tail.subarray(0, edit.length), tail]);
  }
}
