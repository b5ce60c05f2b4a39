import assert from "node:assert/strict";
import { test } from "node:test";
import { messages } from "../../../../agent/buildkit/messages.ts";
import { type Status, Trace } from "../../../../agent/buildkit/trace.ts";

const place = { stage: "", number: 2, total: 3 };
const step = { tell: "step", number: 1, total: 9 } as const;

/** Lines of what is told: `name` when something begins, `name.` when it ends, `name: …` between. */
function told(run: (trace: Trace, pass: (ms: number) => void) => void): readonly string[] {
  const lines: string[] = [];
  const names = new Map<string, string>();
  let now = 1_000;
  const codec = messages("moby.buildkit.v1.StatusResponse");
  const trace = new Trace(
    "salt",
    () => now,
    (status: Status) => {
      // As it comes to the other side.
      const { vertexes, statuses, logs } = codec.decode(codec.encode(status));
      for (const { digest, name, completed, cached, error } of vertexes) {
        names.set(digest, name);
        const outcome = `${cached ? " cached" : ""}${error === "" ? "" : ` ${error}`}`;
        lines.push(`${name}${completed ? "." : ""}${outcome}`);
      }
      for (const { vertex, ID, current, total, completed } of statuses)
        lines.push(`${names.get(vertex)}: ${ID} ${current}/${total}${completed ? " done" : ""}`);
      for (const { vertex, stream, msg } of logs)
        lines.push(`${names.get(vertex)}: ${stream} ${Buffer.from(msg).toString()}`);
    },
  );
  run(trace, (ms) => {
    now += ms;
  });
  return lines;
}

test("each step ends as the next begins; what is only configuration is not shown", () => {
  const lines = told((trace) => {
    trace.tell({ ...step, shown: "FROM base AS x", place: { ...place, stage: "x", number: 1 } });
    trace.tell({ ...step, shown: "ENV a=b", place: null });
    trace.tell({ ...step, shown: "RUN make \\\n   all", place });
    trace.tell({ tell: "cached" });
    trace.tell({ ...step, shown: "RUN x", place: { ...place, number: 3 } });
    trace.tell({ tell: "output", stream: 2, text: "oh\n" });
    trace.tell({ tell: "built", id: "sha256:1", names: ["a:1"] });
  });
  assert.deepEqual(lines, [
    ...["[x 1/3] FROM base", "[x 1/3] FROM base."],
    ...["[2/3] RUN make \\ all", "[2/3] RUN make \\ all. cached"],
    ...["[3/3] RUN x", "[3/3] RUN x: 2 oh\n", "[3/3] RUN x."],
    "exporting to image",
    "exporting to image: writing image sha256:1 0/0",
    "exporting to image: naming to a:1 0/0",
    "exporting to image: writing image sha256:1 0/0 done",
    "exporting to image: naming to a:1 0/0 done",
    "exporting to image.",
  ]);
});

test("how far a transfer is is told now and then, and at its end", () => {
  const lines = told((trace, pass) => {
    const vertex = trace.begin("load");
    for (const bytes of [1, 2, 3, 4]) {
      vertex.status("sent", bytes);
      pass(100);
    }
    vertex.end();
  });
  assert.deepEqual(lines, [
    ...["load", "load: sent 1/0", "load: sent 3/0", "load: sent 4/0 done", "load."],
  ]);
});

test("a layer on its way is done with one thing when the next is begun", () => {
  const lines = told((trace) => {
    trace.tell({ ...step, shown: "FROM b", place: { ...place, number: 1 } });
    const layer = (status: string, current?: number) =>
      trace.tell({
        tell: "pull",
        line: {
          ...{ id: "abc", status },
          ...(current === undefined ? {} : { progressDetail: { current, total: 9 } }),
        },
      });
    layer("Pulling fs layer");
    layer("Downloading", 5);
    layer("Extracting", 5);
    layer("Pull complete");
  });
  assert.deepEqual(lines.slice(1), [
    "[1/3] FROM b: downloading abc 5/9",
    "[1/3] FROM b: downloading abc 5/9 done",
    "[1/3] FROM b: extracting abc 5/9",
    "[1/3] FROM b: extracting abc 5/9 done",
  ]);
});

test("a failure ends all that is under way, and is said once of each", () => {
  const lines = told((trace) => {
    trace.tell({ ...step, shown: "COPY a b", place });
    trace.begin("load");
    trace.fail("gone");
    trace.fail("again");
  });
  assert.deepEqual(lines, ["[2/3] COPY a b", "load", "[2/3] COPY a b. gone", "load. gone"]);
});

test("builds' vertexes are each other's in nothing", () => {
  const digests = ["one", "two"].map((salt) => {
    const seen: unknown[] = [];
    const trace = new Trace(
      salt,
      () => 0,
      ({ vertexes }) => seen.push(vertexes?.[0]?.digest),
    );
    trace.begin("same");
    trace.begin("same");
    return seen;
  });
  assert.equal(new Set(digests.flat()).size, 4);
});
