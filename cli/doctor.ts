// `tsswarm doctor`: what is wrong with this node, and what to do.

import { type DockerCommand, ExitCode } from "./command.ts";
import { type Listing, list, type Row } from "./table.ts";
import type { Terminal } from "./terminal.ts";

interface Finding {
  readonly What: string;
  readonly Where: string;
  readonly Wanted: string;
  readonly Actual: string;
  readonly Sentence: string;
  readonly Repaired: boolean;
}

interface Diagnosis {
  readonly NodeID: string;
  readonly LocalNodeState: string;
  readonly Findings: readonly Finding[];
}

interface Flags {
  readonly format?: string;
  readonly repair?: boolean;
}

const findings: Listing = {
  headings: {
    What: "WHAT",
    Where: "WHERE",
    Wanted: "WANTED",
    Actual: "ACTUAL",
    Repaired: "REPAIRED",
    Sentence: "FINDING",
  },
  columns: ["{{.What}}", "{{.Where}}", "{{.Repaired}}", "{{.Sentence}}"],
};

export function addDoctorCommand(program: DockerCommand, open: () => Terminal): void {
  program
    .command("doctor")
    .description(
      "Check this node's networks, managers and peers; exit code 1 if something is wrong",
    )
    .option("--format <string>", "json, or a Go template for each finding")
    .option("--repair", "Put right at once what the agent would put right by itself soon")
    .addHelpText("after", help)
    .action((flags: Flags) => doctor(open(), flags));
}

const help = `
The agent compares the node's routes, neighbours, VXLAN forwards, rules, links and DNS tables with what they should be
every minute or so and after every reconnect, repairs what differs, and logs it. This command looks now.`;

async function doctor(terminal: Terminal, { format, repair }: Flags): Promise<void> {
  const diagnosis =
    repair === true
      ? await terminal.client.post<Diagnosis>("/tsswarm/doctor/repair")
      : await terminal.client.get<Diagnosis>("/tsswarm/doctor");
  if (format === "json") terminal.print(`${JSON.stringify(diagnosis)}\n`);
  else if (format !== undefined)
    terminal.print(list(diagnosis.Findings.map(row), findings, { format }));
  else terminal.print(told(diagnosis));
  if (diagnosis.Findings.some(({ Repaired }) => !Repaired)) throw new ExitCode(1);
}

export function told({ LocalNodeState, Findings }: Diagnosis): string {
  if (Findings.length > 0) {
    const isLeft = Findings.some((finding) => !finding.Repaired && isOfNetwork(finding));
    return `${list(Findings.map(row), findings, {})}${isLeft ? repairHint : ""}`;
  }
  return LocalNodeState === "inactive"
    ? "This node is not part of a swarm: there is nothing to check.\n"
    : "Nothing is wrong: this node's networks are as they should be, its managers and peers answer.\n";
}

const repairHint = `
What differs in this node's networks is put right by itself within some minutes; "tsswarm doctor --repair" does it now.
`;

function isOfNetwork({ What }: Finding): boolean {
  return !["firewall", "port", "peer", "manager", "session"].includes(What);
}

function row({ What, Where, Wanted, Actual, Sentence, Repaired }: Finding): Row {
  return { What, Where, Wanted, Actual, Sentence, Repaired: Repaired ? "yes" : "no" };
}
