// The agent's session: keeps a line to some manager, and what the managers want of this node for the agent's next run.

import type {
  Assignment,
  AssignmentKey,
  AttachRequest,
  Hello,
  SessionInfo,
  Task,
  TaskStatus,
  TaskUpdate,
  TaskUsage,
  ToAgent,
} from "../../proto/gen/types.ts";
import { type NodeIdentity, writeNode } from "../../proto/identity.ts";
import { asSwarmError, messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import type { World } from "../../proto/kit/world.ts";
import { unpacked } from "../../proto/packed.ts";
import { Client } from "../../proto/rpc-client.ts";
import { type Role, toManager } from "../../proto/tls.ts";
import { Line } from "./line.ts";
import { type LogHandler, LogPublisher } from "./publish.ts";
import { lifeOf, whyOver } from "./renewal.ts";
import { Reports } from "./reports.ts";
import { type Loaded, SavedFile } from "./saved.ts";
import { type TunnelHandler, Tunnels } from "./tunnels.ts";
import type { Session, Wanted } from "./types.ts";
import { fold, splitFiles } from "./wanted.ts";
import { accepts, firstToAccept, knockEveryMs } from "./way.ts";

const backoffMsMin = 100;
/** No more: for as long a node would be unwatched after its manager is back, and not be replaced if it died then. */
const backoffMsMax = 2_000;
const firstAnswerMsMin = 2_000;
const firstAnswerMsMax = 4_000;
/** A line that held this long was a good one: the next backoff starts small again. */
const steadyMs = 2_000;
/** After this long without a manager nothing is started from what is saved. */
const graceMs = 60_000;
/** How often the saved file is touched, so that a restarted agent knows how long it was gone. */
const touchMs = 5_000;
const goodbyeMs = 1_000;
/** After a renewal logs may go on over the old line for so long. */
const redoMsMax = 15_000;
const redoLookMs = 500;
const redoneMsMax = 3_000;
const redonePauseMs = 20;
/** No manager accepts a connection for so long: said in the log, and tried on. */
const knockMsMax = 5_000;
/** A manager's work for one handshake: as many nodes as there are spread theirs over as long. */
const handshakeMs = 1.5;

export interface FileKeeper {
  /** What the managers need not send again. */
  keys(): readonly AssignmentKey[];
  take(set: readonly Assignment[], remove: readonly AssignmentKey[]): Promise<void>;
}

export interface SessionOptions {
  readonly identity: NodeIdentity;
  /** data-root/identity */
  readonly identityDirectory: string;
  /** What is wanted, as the last agent knew it. */
  readonly savedFile: string;
  readonly bootId: string;
  /** Asked at every connect. `Tasks`: what is still held and has not been `report`ed. */
  readonly hello: (
    identity: NodeIdentity,
  ) => Pick<Hello, "Description" | "DataPathAddr" | "Routes" | "Tasks">;
  readonly unreachablePeers: () => readonly string[];
  /** The node's secrets and configs. */
  readonly files: FileKeeper;
  /** Absent: none. */
  readonly unheldPorts?: () => readonly string[];
  /** Asked at every beat for what is new. Absent: nothing. */
  readonly usage?: () => readonly TaskUsage[];
  /** Called whenever a manager has answered on a new connection. */
  readonly opened?: () => void;
  /** Called with what a manager has just said of the cluster. */
  readonly told?: (info: SessionInfo) => void;
  /** Called when the managers want this node to have another role than its certificate says. */
  readonly roleChanged?: (role: Role) => void;
  readonly world: World;
  readonly log: Log;
}

/** Reads what is saved, and connects in the background until `close`. */
export async function openSession(options: SessionOptions): Promise<AgentSession> {
  const file = new SavedFile(options.savedFile, options.bootId);
  const session = new AgentSession(options, file, await readSaved(options, file));
  session.start();
  return session;
}

async function readSaved(options: SessionOptions, file: SavedFile): Promise<Loaded> {
  const { savedFile, bootId, world, log } = options;
  try {
    const loaded = await file.load();
    if (loaded.wanted === null) return loaded;
    const isFresh = loaded.bootId === bootId && world.now() - loaded.heardAt <= graceMs;
    return { ...loaded, wanted: { ...loaded.wanted, confirmed: isFresh } };
  } catch (error) {
    log.warn({ file: savedFile, error: messageOf(error) }, "the saved assignments are unreadable");
    return { wanted: null, bootId, heardAt: 0 };
  }
}

export class AgentSession implements Session {
  readonly #options: SessionOptions;
  readonly #file: SavedFile;
  readonly #stop = new AbortController();
  readonly #reports: Reports;
  readonly #logs: LogPublisher;
  readonly #tunnels: Tunnels;
  readonly #watchers = new Set<() => void>();
  #identity: NodeIdentity;
  #wanted: Wanted | null;
  #heardAt: number;
  #touchedAt: number;
  #line: Line | null = null;
  #client: Client<"Dispatch"> | null = null;
  #isOpen = false;
  #refused = "";
  #running: Promise<void> = Promise.resolve();

  constructor(options: SessionOptions, file: SavedFile, saved: Loaded) {
    this.#options = options;
    this.#file = file;
    this.#identity = options.identity;
    this.#wanted = saved.wanted;
    this.#heardAt = saved.heardAt;
    this.#touchedAt = saved.heardAt;
    this.#reports = new Reports(options.world, this.#stop.signal, (updates) => this.#send(updates));
    this.#logs = new LogPublisher(options.world, options.log);
    this.#tunnels = new Tunnels(options.log);
  }

  get wanted(): Wanted | null {
    return this.#wanted;
  }

  start(): void {
    this.#running = this.#keepConnected();
  }

  async *watch(signal: AbortSignal): AsyncGenerator<Wanted, void, void> {
    let seen: Wanted | null = null;
    const ended = AbortSignal.any([signal, this.#stop.signal]);
    while (!ended.aborted) {
      if (this.#wanted !== null && this.#wanted !== seen) {
        seen = this.#wanted;
        yield seen;
        continue;
      }
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#watchers.delete(wake);
          ended.removeEventListener("abort", wake);
          resolve();
        };
        this.#watchers.add(wake);
        ended.addEventListener("abort", wake, { once: true });
      });
    }
  }

  report(taskId: string, status: TaskStatus): void {
    this.#reports.report(taskId, status);
  }

  acknowledge(version: string): void {
    if (this.#isOpen && version !== "") this.#line?.send({ Acknowledged: { Version: version } });
  }

  onLogs(handler: LogHandler): void {
    this.#logs.handle(handler);
  }

  onTunnel(handler: TunnelHandler): void {
    this.#tunnels.handle(handler);
  }

  connected(): boolean {
    return this.#isOpen;
  }

  /** Milliseconds since 1970: when a manager was last heard. */
  get heardAt(): number {
    return this.#heardAt;
  }

  /** "" or the sentence by which the managers refuse this node: it is no longer part of the swarm. */
  refused(): string {
    return this.#refused;
  }

  /** An address for a container made by hand. Throws `unavailable` while no manager is in session, and what it answers. */
  async attach(request: AttachRequest, signal: AbortSignal): Promise<Task> {
    await this.#untilRedone(signal);
    return this.#manager().unary("Attach", request, { signal });
  }

  async detach(taskIds: readonly string[], signal: AbortSignal): Promise<void> {
    await this.#untilRedone(signal);
    await this.#manager().unary("Detach", { TaskIDs: taskIds }, { signal });
  }

  /** While the line is made anew for a certificate's sake, nobody is refused for that. */
  async #untilRedone(signal: AbortSignal): Promise<void> {
    const { world } = this.#options;
    const deadline = world.monotonic() + redoneMsMax;
    while (this.#redone !== null && !this.#isOpen && world.monotonic() < deadline)
      await world.sleep(redonePauseMs, signal);
  }

  #manager(): Client<"Dispatch"> {
    if (this.#client === null || !this.#isOpen)
      throw new SwarmError("unavailable", "no manager of the swarm answers now: try again");
    return this.#client;
  }

  /** What this node is by now: the next connection shows its certificate. */
  get identity(): NodeIdentity {
    return this.#identity;
  }

  /** The line is made anew with it, as soon as no logs go over it, and before the old certificate ends. */
  renewed(identity: NodeIdentity): void {
    const { ends } = lifeOf(this.#identity.certificate);
    this.#identity = { ...identity, managers: this.#identity.managers };
    const leftMs = ends - this.#options.world.now();
    const patienceMs = Math.min(redoMsMax, Math.max(0, leftMs / 2));
    this.#redoing ??= this.#redo(patienceMs).finally(() => {
      this.#redoing = null;
    });
  }
  #redoing: Promise<void> | null = null;
  /** The line that was ended for this. */
  #redone: Line | null = null;

  async #redo(patienceMs: number): Promise<void> {
    const { world } = this.#options;
    const line = this.#line;
    const signal = this.#stop.signal;
    const deadline = world.monotonic() + patienceMs;
    while (!this.#logs.isIdle && world.monotonic() < deadline && this.#line === line)
      await world.sleep(redoLookMs, signal).catch(() => {});
    // One that was made meanwhile has the new certificate already.
    if (signal.aborted || line === null || this.#line !== line) return;
    this.#redone = line;
    line.end();
  }

  async close(reason: string): Promise<void> {
    const line = this.#line;
    if (line !== null && this.#isOpen) {
      line.send({ Leaving: { Reason: reason } });
      line.end();
      const enough = AbortSignal.timeout(goodbyeMs);
      await new Promise<void>((resolve) => {
        enough.addEventListener("abort", () => resolve(), { once: true });
        this.#onLineEnd = resolve;
      });
    }
    this.#stop.abort(new SwarmError("cancelled", "the session is closing"));
    this.#tunnels.closeAll();
    await this.#running;
    await this.#file.close();
  }
  #onLineEnd: (() => void) | null = null;

  #send(updates: readonly TaskUpdate[]): boolean {
    // Before the first answer too: it goes right after the Hello, which did not have it.
    if (this.#line === null) return false;
    this.#line.send({ Tasks: updates });
    return true;
  }

  async #keepConnected(): Promise<void> {
    const { world, log } = this.#options;
    const signal = this.#stop.signal;
    for (let failures = 0; !signal.aborted; ) {
      this.#refused = whyOver(this.#identity, world.now()) || this.#refused;
      const manager = await this.#managerToTry(failures, signal);
      if (signal.aborted) return;
      if (manager === null) {
        // No failure of theirs: the first to accept is asked at once.
        this.#doubtAfterGrace();
        log.warn("no manager accepts a connection; trying on");
        continue;
      }
      const started = world.monotonic();
      let why = "the manager ended the session";
      try {
        await this.#runLine(manager, failures, signal);
      } catch (error) {
        why = messageOf(error);
        const { code } = asSwarmError(error);
        this.#refused = code === "denied" || code === "unauthenticated" ? why : "";
      }
      this.#onLineEnd?.();
      if (signal.aborted) return;
      if (this.#redone !== null && this.#redone === this.#line) {
        this.#isOpen = false;
        this.#line = null;
        continue;
      }
      const isSteady = this.#isOpen && world.monotonic() - started >= steadyMs;
      // Where there are several, the one just lost is asked last.
      failures = isSteady ? Math.min(1, this.#identity.managers.length - 1) : failures + 1;
      this.#isOpen = false;
      this.#line = null;
      this.#doubtAfterGrace();
      const base = Math.min(backoffMsMax, backoffMsMin * 2 ** Math.min(failures, 10));
      const waitMs = Math.round(base * (0.5 + world.random() / 2));
      log.warn({ manager, why, failures, waitMs }, "no session with the managers; trying again");
      await world.sleep(waitMs, signal).catch(() => {});
    }
  }

  /** The first to accept a connection; asked is first the one that worked last, after a failure the next in turn. */
  async #managerToTry(failures: number, signal: AbortSignal): Promise<string | null> {
    const { world } = this.#options;
    const { managers } = this.#identity;
    const next = failures % managers.length;
    const inTurn = [...managers.slice(next), ...managers.slice(0, next)];
    const found = await firstToAccept(inTurn, knockMsMax, world, signal);
    if (found !== null)
      await world.sleep(world.random() * this.#spreadMs(), signal).catch(() => {});
    return found;
  }

  #spreadMs(): number {
    return handshakeMs * (this.#wanted?.peers.size ?? 0);
  }

  async #runLine(manager: string, failures: number, signal: AbortSignal): Promise<void> {
    const {
      world,
      unreachablePeers,
      unheldPorts = () => [],
      usage = () => [],
      hello,
      bootId,
    } = this.#options;
    const client = new Client(
      "Dispatch",
      manager,
      toManager(this.#identity, this.#identity.clusterId),
    );
    const held = hello(this.#identity);
    const reported = this.#reports.all();
    const known = new Set(reported.map((update) => update.ID));
    const line = new Line({
      client,
      hello: {
        ...held,
        BootID: bootId,
        Unpacks: true,
        Have: this.#wanted?.version ?? "",
        Networks: [...(this.#wanted?.networks.keys() ?? [])],
        Files: this.#options.files.keys(),
        Tasks: [...reported, ...held.Tasks.filter((update) => !known.has(update.ID))],
      },
      firstAnswerMs: Math.min(firstAnswerMsMax, firstAnswerMsMin * 2 ** Math.min(failures, 5)),
      unreachablePeers,
      unheldPorts,
      usage,
      knock: (stop) => accepts(manager, knockEveryMs, stop),
      spreadMs: () => this.#spreadMs(),
      receive: async (message) => {
        if (!this.#isOpen) await this.#opened(manager);
        await this.#receive(unpacked(message), client);
      },
      world,
    });
    this.#line = line;
    this.#client = client;
    this.#isOpen = false;
    try {
      await line.run(signal);
    } finally {
      this.#logs.closeAll();
      this.#client = null;
      client.close();
    }
  }

  async #opened(manager: string): Promise<void> {
    this.#options.log.info({ manager }, "in session with a manager");
    this.#isOpen = true;
    this.#redone = null;
    this.#refused = "";
    this.#options.opened?.();
    await this.#prefer(manager);
  }

  async #receive(message: ToAgent, client: Client<"Dispatch">): Promise<void> {
    this.#heardAt = this.#options.world.now();
    if (message.Version !== "") await this.#take(message);
    else if (message.Info !== undefined && this.#wanted !== null)
      await this.#take({ ...message, Version: this.#wanted.version });
    else await this.#touch();
    if (message.Info !== undefined) {
      await this.#learn(message.Info);
      this.#options.told?.(message.Info);
    }
    for (const subscription of message.Logs) this.#logs.open(subscription, client);
    for (const id of message.CloseLogs) this.#logs.close(id);
    for (const tunnel of message.Tunnels) this.#tunnels.open(tunnel, this.#identity);
  }

  /** Saved first (secrets and configs to where files are kept), then to those who act on it. */
  async #take(message: ToAgent): Promise<void> {
    const { files, rest } = splitFiles(message);
    if (files.Set.length + files.Remove.length > 0)
      await this.#options.files.take(files.Set, files.Remove);
    const wanted = fold(this.#wanted, rest);
    await this.#file.save(wanted, rest);
    this.#touchedAt = this.#heardAt;
    this.#publish(wanted);
    this.#reports.keepOnly((id) => wanted.tasks.has(id));
  }

  #publish(wanted: Wanted): void {
    this.#wanted = wanted;
    for (const wake of this.#watchers) wake();
  }

  async #touch(): Promise<void> {
    if (this.#wanted === null || this.#heardAt - this.#touchedAt < touchMs) return;
    this.#touchedAt = this.#heardAt;
    await this.#file.touch(this.#heardAt);
  }

  #doubtAfterGrace(): void {
    const isDoubtful = this.#options.world.now() - this.#heardAt > graceMs;
    if (this.#wanted?.confirmed === true && isDoubtful)
      this.#publish({ ...this.#wanted, confirmed: false });
  }

  async #learn(info: SessionInfo): Promise<void> {
    const { managers, role } = this.#identity;
    const wanted: Role = info.Role === "manager" ? "manager" : "worker";
    if (wanted !== role) this.#options.roleChanged?.(wanted);
    const known = [...managers].sort().join();
    if (info.Managers.length === 0 || known === [...info.Managers].sort().join()) return;
    const kept = managers.filter((manager) => info.Managers.includes(manager));
    // Not all agents go the same way when the first one is lost.
    const order = new Map(info.Managers.map((manager) => [manager, this.#options.world.random()]));
    const added = info.Managers.filter((manager) => !kept.includes(manager)).sort(
      (a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0),
    );
    await this.#remember([...kept, ...added]);
  }

  async #prefer(manager: string): Promise<void> {
    const { managers } = this.#identity;
    if (managers[0] === manager) return;
    await this.#remember([manager, ...managers.filter((other) => other !== manager)]);
  }

  async #remember(managers: readonly string[]): Promise<void> {
    this.#identity = { ...this.#identity, managers };
    await writeNode(this.#options.identityDirectory, this.#identity);
  }
}
