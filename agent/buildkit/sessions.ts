// Sessions: connections that clients of a build have opened, and over which they are asked for what the build needs.

import type { IncomingHttpHeaders } from "node:http";
import type { Duplex } from "node:stream";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { AgentDoor } from "../build/agent-socket.ts";
import type { RegistryAuth } from "../engine/image-types.ts";
import { carryToAgent } from "./agent.ts";
import { type CallMetadata, type Exchange, SocketCalls } from "./calls.ts";
import { messages } from "./messages.ts";

const sessionsMax = 256;
/** A client opens its session at the same time as it asks for the build. */
const comesMsMax = 10_000;

const syncMethod = "/moby.filesync.v1.FileSync/DiffCopy";
const sendMethod = "/moby.filesync.v1.FileSend/DiffCopy";
const authMethod = "/moby.filesync.v1.Auth/Credentials";
const secretMethod = "/moby.buildkit.secrets.v1.Secrets/GetSecret";

const checkMethod = "/moby.sshforward.v1.SSH/CheckAgent";
const forwardMethod = "/moby.sshforward.v1.SSH/ForwardAgent";

const authQuestion = messages("moby.filesync.v1.CredentialsRequest");
const authAnswer = messages("moby.filesync.v1.CredentialsResponse");
const secretQuestion = messages("moby.buildkit.secrets.v1.GetSecretRequest");
const agentQuestion = messages("moby.sshforward.v1.CheckAgentRequest");
const secretAnswer = messages("moby.buildkit.secrets.v1.GetSecretResponse");

export class Sessions {
  readonly #open = new Map<string, Session>();
  readonly #waiting = new Set<() => void>();

  /** The connection is the session's from here on. Throws `invalid`, `conflict`, `exhausted` before it touches it. */
  open(headers: IncomingHttpHeaders, upgrade: () => Duplex): void {
    const id = textOf(headers["x-docker-expose-session-uuid"]);
    if (headers.upgrade?.toLowerCase() !== "h2c")
      throw new SwarmError("invalid", "a session is opened by an upgrade to h2c");
    if (this.#open.has(id)) throw new SwarmError("conflict", `session ${id} exists already`);
    if (this.#open.size >= sessionsMax)
      throw new SwarmError("exhausted", `${sessionsMax} sessions of builds are open already`);
    const methods = textOf(headers["x-docker-expose-session-grpc-method"]).split(/,\s*/);
    const key = textOf(headers["x-docker-expose-session-sharedkey"]);
    const calls = new SocketCalls(upgrade(), () => {
      session.isServed = true;
      for (const look of this.#waiting) look();
    });
    const session = new Session(calls, key, methods);
    // Who gives it no name has nothing to be asked for.
    if (id === "") return;
    this.#open.set(id, session);
    session.gone.addEventListener("abort", () => this.#open.delete(id), { once: true });
  }

  /**
   * Waits for one that is about to come, and until its client serves: one that is refused before that waits for its own session for
   * ever (docker 20.10). Throws `not_found`.
   */
  async find(id: string, signal: AbortSignal): Promise<Session> {
    const known = this.#open.get(id);
    if (known?.isServed === true) return known;
    const late = AbortSignal.timeout(comesMsMax);
    return new Promise<Session>((resolve, reject) => {
      const end = (settle: () => void) => {
        this.#waiting.delete(look);
        late.removeEventListener("abort", give);
        signal.removeEventListener("abort", stop);
        settle();
      };
      const look = () => {
        const session = this.#open.get(id);
        if (session?.isServed === true) end(() => resolve(session));
      };
      const give = () =>
        end(() => reject(new SwarmError("not_found", `no session ${id} has been opened`)));
      const stop = () => end(() => reject(signal.reason));
      this.#waiting.add(look);
      late.addEventListener("abort", give, { once: true });
      signal.addEventListener("abort", stop, { once: true });
      if (signal.aborted) stop();
    });
  }

  close(): void {
    for (const session of this.#open.values()) session.close();
  }
}

export class Session {
  readonly #calls: SocketCalls;
  readonly #methods: ReadonlySet<string>;
  /** What the client calls the folder it builds from; "" when it does not say. */
  readonly sharedKey: string;
  /** Whether the client answers yet. */
  isServed = false;

  constructor(calls: SocketCalls, sharedKey: string, methods: readonly string[]) {
    this.#calls = calls;
    this.sharedKey = sharedKey;
    this.#methods = new Set(methods.map((method) => method.toLowerCase()));
  }

  /** Aborted when the client has gone. */
  get gone(): AbortSignal {
    return this.#calls.gone;
  }

  close(): void {
    this.#calls.close();
  }

  /** One of the client's folders, by fsutil's packets. Throws `unsupported` where it offers none. */
  folder(metadata: CallMetadata, signal: AbortSignal): Exchange {
    if (!this.#offers(syncMethod))
      throw new SwarmError("unsupported", "the build's client offers no folder to build from");
    return this.#calls.exchange(syncMethod, metadata, signal);
  }

  /** Where the client wants a result. Throws `unsupported` where it has no place for one. */
  results(signal: AbortSignal): Exchange {
    if (!this.#offers(sendMethod))
      throw new SwarmError("unsupported", "the build's client has no place for a result");
    return this.#calls.exchange(sendMethod, {}, signal);
  }

  /** `host`: as one connects to it. */
  async auth(host: string, signal: AbortSignal): Promise<RegistryAuth | null> {
    if (!this.#offers(authMethod)) return null;
    const question = authQuestion.encode({ Host: host });
    const { Username, Secret } = authAnswer.decode(
      await this.#calls.unary(authMethod, question, signal),
    );
    if (Secret === "") return null;
    return Username === "" ? { identitytoken: Secret } : { username: Username, password: Secret };
  }

  /** Null where the client has none of the id. */
  async secret(id: string, signal: AbortSignal): Promise<Buffer | null> {
    if (!this.#offers(secretMethod)) return null;
    try {
      const answer = await this.#calls.unary(
        secretMethod,
        secretQuestion.encode({ ID: id }),
        signal,
      );
      return Buffer.from(secretAnswer.decode(answer).data);
    } catch (error) {
      if (error instanceof SwarmError && error.code === "not_found") return null;
      throw error;
    }
  }

  /** Null where the client has none of the id. */
  async agent(id: string, signal: AbortSignal): Promise<AgentDoor | null> {
    if (!this.#offers(checkMethod) || !this.#offers(forwardMethod)) return null;
    try {
      await this.#calls.unary(checkMethod, agentQuestion.encode({ ID: id }), signal);
    } catch (error) {
      signal.throwIfAborted();
      // Clients have no code of their own for it.
      if (error instanceof SwarmError) return null;
      throw error;
    }
    return (connection) => {
      const carry = async () => {
        const named = { "buildkit.ssh.id": id };
        await carryToAgent(connection, this.#calls.exchange(forwardMethod, named, signal));
      };
      // What goes wrong between the two is the end of the connection; ssh says so.
      carry().catch(() => connection.destroy());
    };
  }

  #offers(method: string): boolean {
    return this.#methods.has(method.toLowerCase());
  }
}

function textOf(value: string | readonly string[] | undefined): string {
  return typeof value === "object" ? value.join() : (value ?? "");
}
