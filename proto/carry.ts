// The Calls service's server: unary calls that come on one stream, answered by the handlers that are served beside it.

import type grpc from "@grpc/grpc-js";
import type { Answer, AnswerBatch, Call, CallBatch } from "./gen/types.ts";
import { asSwarmError, SwarmError } from "./kit/errors.ts";
import { type Admit, type Caller, serve, type UnaryMethod, unaryMethods } from "./rpc-server.ts";

/** Of one stream. More are refused. */
const callsMax = 4096;
/** Answers that are ready together go together, up to about so many bytes. */
const batchBytesMax = 256 * 1024;

/**
 * Adds the Calls service, for all unary methods that `serve` adds to this server before or after. `admit` is asked for the stream;
 * each call is let in, or not, as its own service says.
 */
export function serveCalls(server: grpc.Server, admit: Admit): void {
  const methods = unaryMethods(server);
  const carry = {
    Carry: (batches: AsyncIterable<CallBatch>, caller: Caller) =>
      new Carried(methods, caller).run(batches),
  };
  serve(server, "Calls", carry, admit);
}

class Carried {
  readonly #methods: ReadonlyMap<string, UnaryMethod>;
  readonly #caller: Caller;
  readonly #address: string;
  readonly #running = new Map<number, AbortController>();
  #answers: Answer[] = [];
  #hasEnded = false;
  #failure: unknown = null;
  #isWakeDue = false;
  #wake: () => void = () => {};

  constructor(methods: ReadonlyMap<string, UnaryMethod>, caller: Caller) {
    this.#methods = methods;
    this.#caller = caller;
    this.#address = caller.address;
  }

  async *run(batches: AsyncIterable<CallBatch>): AsyncGenerator<AnswerBatch, void, void> {
    const { signal } = this.#caller;
    const abort = () => this.#abort(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    void this.#read(batches);
    try {
      while (!signal.aborted) {
        if (this.#answers.length > 0) yield { Answers: this.#take() };
        else if (this.#failure !== null) throw this.#failure;
        else if (this.#hasEnded && this.#running.size === 0) return;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      signal.removeEventListener("abort", abort);
      this.#abort(new SwarmError("cancelled", "the caller went away"));
    }
  }

  async #read(batches: AsyncIterable<CallBatch>): Promise<void> {
    try {
      for await (const { Calls } of batches)
        for (const call of Calls)
          if (call.Cancel) this.#cancel(call.Number);
          else this.#begin(call);
    } catch (error) {
      this.#failure = error;
    }
    this.#hasEnded = true;
    this.#wake();
  }

  #cancel(number: number): void {
    this.#running.get(number)?.abort(new SwarmError("cancelled", "the caller gave up"));
    this.#running.delete(number);
  }

  #begin(call: Call): void {
    const { Number: number, Method } = call;
    if (this.#running.has(number) || this.#running.size >= callsMax) {
      const why = this.#running.has(number) ? "this call is under way" : "too many calls";
      this.#answer(number, { Code: "exhausted", Message: `${why} on one stream` });
      return;
    }
    const controller = new AbortController();
    this.#running.set(number, controller);
    const method = this.#methods.get(Method);
    const { signal } = controller;
    const caller = new CarriedCaller(this.#caller, this.#address, signal, call.Metadata);
    const perform = async (): Promise<Buffer> => {
      if (method === undefined)
        throw new SwarmError("unsupported", `this manager does not know ${Method}`);
      const admitted = method.admit(caller);
      if (admitted !== undefined) await admitted;
      return method.encode(await method.handle(method.decode(call.Request), caller));
    };
    const done = (answer: Partial<Answer>) => {
      if (this.#running.get(number) !== controller) return;
      this.#running.delete(number);
      const Trailer = caller.said;
      this.#answer(number, Trailer === null ? answer : { ...answer, Trailer });
    };
    perform().then(
      (Response) => done({ Response }),
      (error: unknown) => {
        const { code, message } = asSwarmError(error);
        done({ Code: code, Message: message });
      },
    );
  }

  #answer(number: number, answer: Partial<Answer>): void {
    this.#answers.push({ ...answer, Number: number } as Answer);
    if (this.#isWakeDue) return;
    this.#isWakeDue = true;
    // What else is answered in this turn goes along.
    process.nextTick(() => {
      this.#isWakeDue = false;
      this.#wake();
    });
  }

  #take(): readonly Answer[] {
    let bytes = 0;
    let count = 0;
    for (const { Response } of this.#answers) {
      bytes += Response?.length ?? 0;
      if (count > 0 && bytes > batchBytesMax) break;
      count += 1;
    }
    return this.#answers.splice(0, count);
  }

  #abort(reason: unknown): void {
    for (const controller of this.#running.values()) controller.abort(reason);
    this.#running.clear();
    this.#wake();
  }
}

/** As the stream's caller, with the call's own words. */
class CarriedCaller implements Caller {
  readonly signal: AbortSignal;
  readonly metadata: Readonly<Record<string, string>>;
  readonly address: string;
  readonly #stream: Caller;
  #trailer: Map<string, string> | null = null;

  constructor(
    stream: Caller,
    address: string,
    signal: AbortSignal,
    metadata: Readonly<Record<string, string>>,
  ) {
    this.#stream = stream;
    this.address = address;
    this.signal = signal;
    this.metadata = metadata;
  }

  get certificate(): Buffer | null {
    return this.#stream.certificate;
  }

  get doubt(): string {
    return this.#stream.doubt ?? "";
  }

  get trailer(): Map<string, string> {
    this.#trailer ??= new Map();
    return this.#trailer;
  }

  /** What was put into the trailer; null for nothing. */
  get said(): Readonly<Record<string, string>> | null {
    return this.#trailer === null ? null : Object.fromEntries(this.#trailer);
  }
}
