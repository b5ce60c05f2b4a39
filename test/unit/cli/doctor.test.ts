import assert from "node:assert/strict";
import { test } from "node:test";
import { runCommand } from "./fake.ts";

const route = {
  ...{ What: "route", Where: "the host", Wanted: "A", Actual: "" },
  ...{ Sentence: "the host lacks the route A", Repaired: false },
};
const peer = {
  ...{ What: "peer", Where: "h2", Wanted: "UDP port 4789", Actual: "" },
  ...{ Sentence: "h2 does not answer", Repaired: false },
};
const diagnosis = (Findings: readonly object[], LocalNodeState = "active") => ({
  ...{ NodeID: "n1", LocalNodeState, Findings },
});
const wellSentence =
  "Nothing is wrong: this node's networks are as they should be, its managers and peers answer.\n";
const hint =
  '\nWhat differs in this node\'s networks is put right by itself within some minutes; "tsswarm doctor --repair" does it now.\n';

const rows: readonly {
  readonly name: string;
  readonly args?: readonly string[];
  readonly answer: object;
  readonly code: number;
  readonly out: string;
}[] = [
  { name: "a healthy node", answer: diagnosis([]), code: 0, out: wellSentence },
  {
    name: "a node in no swarm",
    answer: diagnosis([], "inactive"),
    code: 0,
    out: "This node is not part of a swarm: there is nothing to check.\n",
  },
  {
    name: "findings, with the word that the agent repairs by itself",
    answer: diagnosis([peer, route]),
    code: 1,
    out: `WHAT      WHERE      REPAIRED   FINDING
peer      h2         no         h2 does not answer
route     the host   no         the host lacks the route A
${hint}`,
  },
  {
    name: "only a peer: nothing of it is put right by itself",
    answer: diagnosis([peer]),
    code: 1,
    out: `WHAT      WHERE     REPAIRED   FINDING
peer      h2        no         h2 does not answer
`,
  },
  {
    name: "all repaired",
    args: ["--repair"],
    answer: diagnosis([{ ...route, Repaired: true }]),
    code: 0,
    out: `WHAT      WHERE      REPAIRED   FINDING
route     the host   yes        the host lacks the route A
`,
  },
  {
    name: "as JSON",
    args: ["--format", "json"],
    answer: diagnosis([peer]),
    code: 1,
    out: `${JSON.stringify(diagnosis([peer]))}\n`,
  },
  {
    name: "through a template",
    args: ["--format", "{{.What}}: {{.Sentence}}"],
    answer: diagnosis([peer]),
    code: 1,
    out: "peer: h2 does not answer\n",
  },
];
for (const { name, args = [], answer, code, out } of rows)
  test(`doctor: ${name}`, async () => {
    const answers = { "GET /tsswarm/doctor": answer, "POST /tsswarm/doctor/repair": answer };
    const outcome = await runCommand(["doctor", ...args], answers);
    assert.deepEqual([outcome.code, outcome.out, outcome.err], [code, out, ""]);
    assert.equal(outcome.asked[0]?.method, args.includes("--repair") ? "POST" : "GET");
  });
