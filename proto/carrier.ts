// A client whose unary calls share one stream (the Calls service): for who calls often.

import grpc from "@grpc/grpc-js";
import type { Answer, AnswerBatch, Call, CallBatch } from "./gen/types.ts";
import { asSwarmError, type ErrorCode, SwarmError } from "./kit/errors.ts";
import type { ServiceName } from "./rpc.ts";
import { type CallOptions, Client, unaryTimeoutMs } from "./rpc-client.ts";
import { failure } from "./rpc-status.ts";

/** Of one stream. More are refused. */
const callsMax = 2048;

interface Waiting {
  readonly answered: (answer: Answer) => void;
  readonly failed: (error: SwarmError) => void;
}

/**
 * Like `Client`, and so are its errors. Calls that are made in one turn go out together, and it opens one stream, when it is first
 * needed. A server that does not know the Calls service yet gets calls of their own.
 */
export class CarryingClient<S extends ServiceName> extends Client<S> {
  readonly #service: S;
  readonly #carrier: Client<"Calls">;
  #stream: CallStream | null = null;
  #isUnsupported = false;

  constructor(...parameters: ConstructorParameters<typeof Client<S>>) {
    super(...parameters);
    const [service, ...others] = parameters;
    this.#service = service;
    this.#carrier = new Client("Calls", ...others);
  }

  override close(): void {
    this.#stream?.close();
    this.#carrier.close();
    super.close();
  }

  override async unary<M extends Parameters<Client<S>["unary"]>[0]>(
    method: M,
    request: Parameters<Client<S>["unary"]>[1],
    options: CallOptions = {},
  ): ReturnType<Client<S>["unary"]> {
    options.signal?.throwIfAborted();
    if (this.#isUnsupported) return super.unary(method, request, options);
    const { encode, decode } = this.codecs(method);
    const Request = encode(request);
    if (this.#stream === null || this.#stream.hasEnded)
      this.#stream = new CallStream(this.#carrier);
    let answer: Answer;
    try {
      const call = { Method: `${this.#service}.${method}`, Request };
      answer = await this.#stream.call(call, options, this.server);
    } catch (error) {
      if (asSwarmError(error).code !== "unsupported") throw error;
      this.#isUnsupported = true;
      return super.unary(method, request, options);
    }
    if (Object.keys(answer.Trailer).length > 0) options.heard?.(answer.Trailer);
    if (answer.Code !== "") throw new SwarmError(answer.Code as ErrorCode, answer.Message);
    return decode(answer.Response) as Awaited<ReturnType<Client<S>["unary"]>>;
  }
}

class CallStream {
  readonly #ends = new AbortController();
  readonly #waiting = new Map<number, Waiting>();
  #numbers = 0;
  #calls: Call[] = [];
  #isWakeDue = false;
  #wake: () => void = () => {};

  constructor(carrier: Client<"Calls">) {
    const answers = carrier.duplex("Carry", this.#batches(), { signal: this.#ends.signal });
    void this.#read(answers);
  }

  get hasEnded(): boolean {
    return this.#ends.signal.aborted;
  }

  close(): void {
    this.#end(failure(grpc.status.CANCELLED, "the connection was closed"));
  }

  call(
    call: { readonly Method: string; readonly Request: Buffer },
    { signal, timeoutMs = unaryTimeoutMs, metadata = {} }: CallOptions,
    server: string,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.size >= callsMax)
        throw new SwarmError("exhausted", "too many calls are under way; try again");
      this.#numbers += 1;
      const number = this.#numbers;
      const giveUp = (error: SwarmError) => {
        this.#waiting.get(number)?.failed(error);
        const unsent = this.#calls.findIndex((one) => one.Number === number);
        if (unsent < 0) this.#send({ Number: number, Cancel: true } as Call);
        else this.#calls.splice(unsent, 1);
      };
      const cancel = () => giveUp(failure(grpc.status.CANCELLED, "Cancelled on client", server));
      const timer = setTimeout(
        () => giveUp(failure(grpc.status.DEADLINE_EXCEEDED, "Deadline exceeded", server)),
        timeoutMs,
      );
      const settled = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", cancel);
        this.#waiting.delete(number);
      };
      this.#waiting.set(number, {
        answered: (answer) => {
          settled();
          resolve(answer);
        },
        failed: (error) => {
          settled();
          reject(error);
        },
      });
      signal?.addEventListener("abort", cancel, { once: true });
      this.#send({ ...call, Number: number, Metadata: metadata, Cancel: false });
    });
  }

  #send(call: Call): void {
    this.#calls.push(call);
    if (this.#isWakeDue) return;
    this.#isWakeDue = true;
    // What else is asked in this turn goes along.
    process.nextTick(() => {
      this.#isWakeDue = false;
      this.#wake();
    });
  }

  async *#batches(): AsyncGenerator<CallBatch, void, void> {
    while (!this.hasEnded) {
      if (this.#calls.length > 0) yield { Calls: this.#calls.splice(0) };
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  async #read(answers: AsyncIterable<AnswerBatch>): Promise<void> {
    try {
      for await (const { Answers } of answers)
        for (const answer of Answers) this.#waiting.get(answer.Number)?.answered(answer);
      this.#end(failure(grpc.status.UNAVAILABLE, "Connection closed"));
    } catch (error) {
      this.#end(asSwarmError(error));
    }
  }

  #end(error: SwarmError): void {
    this.#ends.abort(error);
    for (const { failed } of [...this.#waiting.values()]) failed(error);
    this.#calls = [];
    this.#wake();
  }
}
