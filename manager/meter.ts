// What the parts of a manager tell of their work as it happens, for whoever counts it (metrics.ts).

import type { Plan } from "./plan/types.ts";
import type { RaftStatus } from "./raft/types.ts";
import type { State } from "./store/types.ts";

export interface ManagerMeter {
  /** A write to the Raft log is durable. */
  logWritten(seconds: number): void;
  /** A batch of transactions was committed and applied. */
  committed(bytes: number, seconds: number): void;
  /** The planner has looked at all that had changed, and has worked so long. */
  planned(seconds: number): void;
}

export interface MemberView {
  readonly status: RaftStatus;
  readonly state: State;
  /** Agents in session with this manager. */
  readonly sessions: number;
}

/** The same plan; what it works, without what its reader does between the steps, is told. */
export function measured(plan: Plan, meter: Pick<ManagerMeter, "planned">): Plan {
  return function* (input) {
    const steps = plan(input);
    let ms = 0;
    for (;;) {
      const startedAt = performance.now();
      const step = steps.next();
      ms += performance.now() - startedAt;
      if (step.done === true) {
        meter.planned(ms / 1_000);
        return step.value;
      }
      yield step.value;
    }
  };
}
