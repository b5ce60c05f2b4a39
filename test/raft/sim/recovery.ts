// What has to come right in the calm, looked at once per tick.

import type { History, Operation } from "./history.ts";
import { encodeCommand } from "./machine.ts";
import type { Member } from "./member.ts";
import type { Schedule } from "./schedule.ts";

const key = 9;

export class Recovery {
  isDone = false;
  /** What is not right yet. */
  missing = "";
  readonly #members: ReadonlyMap<string, Member>;
  readonly #staying: ReadonlySet<string>;
  readonly #history: History;
  readonly #schedule: Schedule;
  #write: Operation | null = null;
  #writtenAt = 0;
  readonly #reads = new Map<string, Operation>();

  constructor(
    members: ReadonlyMap<string, Member>,
    staying: ReadonlySet<string>,
    history: History,
    schedule: Schedule,
  ) {
    this.#members = members;
    this.#staying = staying;
    this.#history = history;
    this.#schedule = schedule;
  }

  look(): void {
    this.missing = this.#firstMissing();
    this.isDone = this.missing === "";
  }

  #firstMissing(): string {
    const present = [...this.#members.values()].filter(({ id }) => this.#staying.has(id));
    const leaders = present.filter(({ status }) => status?.role === "leader");
    const leader = leaders[0];
    if (leader === undefined || leaders.length > 1) return `${leaders.length} leaders`;
    const { configuration, term } = leader.status ?? {};
    if (configuration === undefined) return "a configuration";
    if (configuration.outgoing.length > 0) return "the way out of a joint configuration";
    const { voters, learners } = configuration;
    const inside = present.filter(({ id }) => voters.includes(id) || learners.includes(id));
    if (this.#write?.outcome !== "done") {
      this.#tryWrite(leader);
      return "a fresh write";
    }
    const behind = inside.find(({ machine }) => machine.index !== leader.machine.index);
    if (behind !== undefined) return `${behind.id} at ${leader.machine.index}`;
    if (leader.machine.index < this.#writtenAt) return "the fresh write at the leader";
    const other = inside.find(({ machine }) => machine.hash !== leader.machine.hash);
    if (other !== undefined) return `the same state at ${other.id}`;
    const astray = inside.find(
      ({ status }) => status?.term !== term || status?.leader !== leader.id,
    );
    if (astray !== undefined) return `${astray.id} in the leader's term`;
    const unread = inside.find((member) => !this.#hasRead(member));
    return unread === undefined ? "" : `a read at ${unread.id}`;
  }

  /** Once: quiet afterwards, so that nothing new helps what is stuck. */
  #tryWrite(leader: Member): void {
    if (this.#write?.outcome === "pending") return;
    const operation = this.#history.begin({ kind: "write", key, expected: 0 }, this.#schedule.now);
    const { serial, value } = operation;
    const data = encodeCommand({ kind: "write", serial, key, value, expected: 0 }, 0);
    this.#write = operation;
    const answer = leader.ask((core) => {
      const proposed = core.propose(data);
      if (!proposed.ok) return proposed;
      this.#writtenAt = proposed.index;
      this.#history.proposed(operation, proposed.index, proposed.term);
      leader.waiting.write(proposed.index, proposed.term, operation);
      return proposed;
    });
    if (answer?.ok !== true) operation.outcome = "failed";
  }

  #hasRead(member: Member): boolean {
    const known = this.#reads.get(member.id);
    if (known?.outcome === "done") return true;
    if (known?.outcome === "pending") return false;
    const operation = this.#history.begin({ kind: "read", key, expected: 0 }, this.#schedule.now);
    this.#reads.set(member.id, operation);
    const id = `read ${operation.serial}`;
    member.waiting.read(id, operation);
    const answer = member.ask((core) => core.read(id));
    if (answer?.ok !== true) member.waiting.readFailed(id);
    return false;
  }
}
