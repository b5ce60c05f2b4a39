import assert from "node:assert/strict";
import { test } from "node:test";
import { type BuildEvent, linesOf, placesIn } from "../../../../agent/build/events.ts";
import { parseDockerfile } from "../../../../agent/build/parse.ts";
import { pathsOf } from "../../../../agent/build/source.ts";
import { divide } from "../../../../agent/build/stages.ts";

const id = `sha256:${"abc".repeat(20)}abcd`;
const container = "f".repeat(64);

const rows: readonly (readonly [string, BuildEvent, readonly object[]])[] = [
  [
    "a step has its number",
    { tell: "step", shown: "RUN true", number: 2, total: 3, place: null },
    [{ stream: "Step 2/3 : RUN true\n" }],
  ],
  ["what was done before", { tell: "cached" }, [{ stream: " ---> Using cache\n" }]],
  ["an image by its short id", { tell: "image", id }, [{ stream: " ---> abcabcabcabc\n" }]],
  ["scratch has none", { tell: "image", id: "" }, [{ stream: " --->\n" }]],
  [
    "a container by its short id",
    { tell: "running", container },
    [{ stream: " ---> Running in ffffffffffff\n" }],
  ],
  ["output as it is", { tell: "output", stream: 1, text: "x" }, [{ stream: "x" }]],
  [
    "standard error in red",
    { tell: "output", stream: 2, text: "x" },
    [{ stream: "\x1b[91mx\x1b[0m" }],
  ],
  [
    "the end, for programs and people",
    { tell: "built", id, names: ["a:1", "b:latest"] },
    [
      { aux: { ID: id } },
      { stream: "Successfully built abcabcabcabc\n" },
      { stream: "Successfully tagged a:1\n" },
      { stream: "Successfully tagged b:latest\n" },
    ],
  ],
];
for (const [name, event, lines] of rows)
  test(`the lines of Docker's first builder: ${name}`, () => {
    assert.deepEqual(linesOf(event), lines);
  });

function stagesOf(text: string) {
  const { instructions, escapeMark } = parseDockerfile(text);
  return divide(instructions, escapeMark, {}, "linux/amd64").stages;
}

function placesOf(text: string) {
  const stages = stagesOf(text);
  return stages.map((stage, at) => {
    const isOnImage = stage.base === "base";
    const placeOf = placesIn(stages, at, isOnImage);
    return [stage.from, ...stage.instructions].map(({ keyword }) => {
      const place = placeOf(keyword, false);
      return place === null ? "" : `${place.stage} ${place.number}/${place.total}`;
    });
  });
}

test("steps that make files are counted in their stage; what is only configuration is not", () => {
  assert.deepEqual(placesOf("FROM base\nENV a=b\nRUN x\nCOPY y /\nCMD z"), [
    [" 1/3", "", " 2/3", " 3/3", ""],
  ]);
});

test("stages are called by their names, or numbered where there are several; scratch and stages are no step", () => {
  assert.deepEqual(placesOf("FROM base AS first\nRUN x\nFROM scratch\nCOPY --from=first a b"), [
    ["first 1/2", "first 2/2"],
    ["", "stage-1 1/1"],
  ]);
});

test("what an image triggers has no number of its own", () => {
  const placeOf = placesIn(stagesOf("FROM base\nRUN x"), 0, true);
  assert.equal(placeOf("FROM", false)?.number, 1);
  assert.equal(placeOf("RUN", true)?.number, 0);
  assert.equal(placeOf("RUN", false)?.number, 2);
});

const paths: readonly (readonly [string, readonly string[]])[] = [
  ["COPY a b/ /to/", ["a", "b/"]],
  ['COPY ["a b", "/to"]', ["a b"]],
  ["COPY 'a b' /to", ["a b"]],
  ["COPY --from=x a /to", []],
  // Only its step knows it.
  ["COPY $WHAT /to", []],
  ["COPY <<EOF /to\nx\nEOF", []],
  ["ADD https://host/x y.tar /to/", ["y.tar"]],
  ["RUN --mount=type=bind,source=src,target=/src x", ["src"]],
  ["RUN --mount=target=/src x", [""]],
  ["RUN --mount=type=bind,from=x,target=/src x", []],
  ["RUN --mount=type=cache,target=/src x", []],
];
for (const [line, wanted] of paths)
  test(`what of the context is needed: ${line.split("\n")[0]}`, () => {
    assert.deepEqual(pathsOf(stagesOf(`FROM base\n${line}`), "\\"), wanted);
  });
