// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the Dockerfile's own variables
import assert from "node:assert/strict";
import { test } from "node:test";
import { applyChanges, inheritedFrom } from "../../../../agent/build/config.ts";
import { parseDockerfile } from "../../../../agent/build/parse.ts";
import { argsBefore, divide, neededStages, targetOf } from "../../../../agent/build/stages.ts";
import { stepOf } from "../../../../agent/build/steps.ts";
import { expand, splitWords } from "../../../../agent/build/words.ts";
import { ignoring, matcher } from "../../../../proto/kit/patterns.ts";

const values: Readonly<Record<string, string>> = { A: "one", EMPTY: "", B: "two words" };
const put = (text: string) => expand(text, (name) => values[name], "\\");

const expansions = [
  ["$A", "one"],
  ["${A}x", "onex"],
  ["$Ax", ""],
  ["a$", "a$"],
  ["'$A'", "$A"],
  ['"$A b"', "one b"],
  ["\\$A", "$A"],
  ['"\\$A \\n"', "$A \\n"],
  ["${NO:-${A}-y}", "one-y"],
  ["${EMPTY:-x}", "x"],
  ["${EMPTY-x}", ""],
  ["${A:+there}", "there"],
  ["${NO:+there}", ""],
  ["$B", "two words"],
  ["a\\ b", "a b"],
] as const;

for (const [text, wanted] of expansions)
  test(`${text} is ${JSON.stringify(wanted)}`, () => assert.equal(put(text), wanted));

test("what cannot be expanded is refused", () => {
  for (const text of ['"open', "${A", "${A%x}", "${}"])
    assert.throws(() => put(text), { code: "invalid" });
  assert.throws(() => put("${NO:?say so}"), /NO: say so/);
});

test("words are divided at blanks outside of quotes", () => {
  assert.deepEqual(splitWords(`a="b c" d\\ e 'f  g'  h`, "\\"), [
    'a="b c"',
    "d\\ e",
    "'f  g'",
    "h",
  ]);
});

const ignores = [
  ["*.log", "a.log", true],
  ["*.log", "sub/a.log", false],
  ["**/*.log", "sub/deep/a.log", true],
  ["**/*.log", "a.log", true],
  ["node_modules", "node_modules/x/y", true],
  ["/dist/", "dist/main.js", true],
  ["a?c", "abc", true],
  ["a[0-9]", "a5", true],
  ["*\n!keep", "keep/in", false],
  ["*\n!keep\nkeep/in", "keep/in", true],
  ["# no\n", "# no", false],
  ["a.b", "axb", false],
  ["./x", "x", true],
] as const;

for (const [text, path, wanted] of ignores)
  test(`.dockerignore ${JSON.stringify(text)} ${wanted ? "leaves out" : "keeps"} ${path}`, () =>
    assert.equal(ignoring(text)(path), wanted));

test("a star does not pass a slash, two do", () => {
  assert.equal(matcher("a/*")("a/b/c"), false);
  assert.equal(matcher("a/**")("a/b/c"), true);
  assert.throws(() => matcher("[z-a]"), { code: "invalid" });
});

test("a Dockerfile's lines: continued ones, comments within, flags, here-documents, another escape", () => {
  const { instructions, escapeMark } = parseDockerfile(
    "# escape=`\nFROM --platform=linux/amd64 x AS y\nRUN --mount=type=cache,target=/c a `\n# c\n\n  && b\nRUN <<-A cat <<'B'\n\tone\n\tA\ntwo $X\nB\ncmd [\"x\"]",
  );
  assert.equal(escapeMark, "`");
  const [from, run, here, cmd] = instructions;
  assert.deepEqual(from?.flags, { platform: ["linux/amd64"] });
  assert.equal(run?.text.replace(/ +/g, " "), "a && b");
  assert.deepEqual(run?.flags["mount"], ["type=cache,target=/c"]);
  assert.deepEqual(here?.heredocs, [
    { name: "A", content: "one\n", expands: true },
    { name: "B", content: "two $X\n", expands: false },
  ]);
  assert.deepEqual([cmd?.keyword, cmd?.text, cmd?.line], ["CMD", '["x"]', 12]);
});

test("only the stages a target is made of are needed", () => {
  const text = [
    ...["ARG V=1", "FROM a:$V AS one", "FROM b AS two", "COPY --from=one x y", "FROM c AS three"],
    ...["FROM two", "RUN --mount=type=bind,from=0,target=/x true"],
  ].join("\n");
  const { instructions, escapeMark } = parseDockerfile(text);
  const divided = divide(instructions, escapeMark, { V: "7" }, "linux/amd64");
  assert.deepEqual(
    divided.stages.map(({ base }) => base),
    ["a:7", "b", "c", "two"],
  );
  assert.deepEqual(neededStages(divided.stages, targetOf(divided, "")), [0, 1, 3]);
  assert.deepEqual(neededStages(divided.stages, targetOf(divided, "THREE")), [2]);
  assert.throws(() => targetOf(divided, "nobody"), /failed to reach build target nobody/);
});

function step(line: string, config = {}, args: Readonly<Record<string, string>> = {}) {
  const [instruction] = parseDockerfile(`FROM x\n${line}`).instructions.slice(1);
  assert.ok(instruction !== undefined);
  return stepOf(instruction, { config, args: new Map(Object.entries(args)), escapeMark: "\\" });
}

test("what an environment has wins over a build argument", () => {
  const made = step("COPY $V /to/", { Env: ["V=env"] }, { V: "arg" });
  assert.deepEqual(made.do === "copy" && made.sources, ["env"]);
  const copied = step("COPY --chown=$U a b", { WorkingDir: "/w" }, { U: "7:8" });
  assert.ok(copied.do === "copy");
  assert.deepEqual([copied.chown, copied.target], ["7:8", "/w/b"]);
});

test("ENTRYPOINT drops the base image's command, but not one said in the same stage", () => {
  const inherited = step('ENTRYPOINT ["e"]', { Cmd: ["base"] });
  assert.ok(inherited.do === "config");
  assert.equal(inherited.config.Cmd, undefined);
  const said = step('CMD ["own"]');
  assert.ok(said.do === "config");
  const both = step('ENTRYPOINT ["e"]', said.config);
  assert.deepEqual(both.do === "config" && both.config.Cmd, ["own"]);
});

test("an image that says null, or nothing, of its configuration is one to build on", () => {
  const image = { architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [] } };
  const Env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
  assert.deepEqual(inheritedFrom(image), { Env });
  assert.deepEqual(
    inheritedFrom({ ...image, config: { Env: null, Cmd: ["/true"], Labels: null } }),
    {
      Env,
      Cmd: ["/true"],
    },
  );
  assert.deepEqual(inheritedFrom({ ...image, config: { Env: ["PATH=/bin"] } }), {
    Env: ["PATH=/bin"],
  });
});

test("changes of commit and import are configuration only", () => {
  const changes = ["ENV a=1 b=$a", 'LABEL x="y z"', "WORKDIR /a", "WORKDIR b", "EXPOSE 80-81/udp"];
  assert.deepEqual(applyChanges({ Env: ["a=0"] }, changes), {
    Env: ["a=1", "b=0"],
    Labels: { x: "y z" },
    WorkingDir: "/a/b",
    ExposedPorts: { "80/udp": {}, "81/udp": {} },
  });
  assert.throws(() => applyChanges({}, ["RUN x"]), /RUN is not a valid change command/);
});

test("an image's history has the arguments a command could see, and no proxies", () => {
  const args = new Map([
    ["b", "2"],
    ["a", "x y"],
    ["HTTP_PROXY", "http://user:word@proxy"],
    ["SET", "by ARG"],
  ]);
  assert.equal(argsBefore(args, new Map([["SET", "by ENV"]])), "|2 a=x y b=2 ");
  assert.equal(argsBefore(new Map([["no_proxy", "x"]]), new Map()), "");
});
