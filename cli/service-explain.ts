// What would happen, and why something does not: `service create --dry-run`, `service explain`.

import type { Explanation, Rehearsal } from "../proto/gen/types.ts";
import type { Body } from "./body.ts";
import { align } from "./table.ts";
import type { Terminal } from "./terminal.ts";

/** The steps of a rehearsal, one a line. */
export function rehearsalText({ Steps = [], Cut }: Body<Rehearsal>): string {
  const rows = Steps.map(({ At = 0, Action = "", Task = "", Hostname = "", Detail = "" }) => [
    `${(At / 1000).toFixed(1)} s`,
    Action,
    Task,
    Hostname,
    Detail,
  ]);
  const table =
    rows.length === 0
      ? "nothing changes\n"
      : align([["AFTER", "ACTION", "TASK", "NODE", "DETAIL"], ...rows]);
  return Cut ? `${table}… ${Cut}\n` : table;
}

/** `tsswarm service explain NAME` */
export async function explainService(terminal: Terminal, name: string): Promise<void> {
  const path = `/services/${encodeURIComponent(name)}/explain`;
  terminal.print(explanationText(await terminal.client.get<Body<Explanation>>(path)));
}

export function explanationText(explanation: Body<Explanation>): string {
  const { Pending = [], Nodes = [], Scaling = "" } = explanation;
  const tasks =
    Pending.length === 0
      ? "No task of it waits for a node.\n"
      : align([
          ["TASK", "WAITS BECAUSE"],
          ...Pending.map(({ Name = "", Err = "" }) => [Name, Err]),
        ]);
  const nodes = align([
    ["NODE", "FITS", "WHY"],
    ...Nodes.map(({ Hostname = "", Fits = false, Reasons = [], Note = "" }) => [
      Hostname,
      Fits ? "yes" : "no",
      [...Reasons, ...(Note === "" ? [] : [Note])].join("; "),
    ]),
  ]);
  const scaling = Scaling === "" ? "" : `\nScaled by what its tasks use, ${Scaling}\n`;
  return `${tasks}\n${nodes}${scaling}`;
}
