import assert from "node:assert/strict";
import { test } from "node:test";
import { parseGoTemplate } from "../../../proto/go-template.ts";

const options = {
  functions: { big: () => "x".repeat(1024 * 1024) },
  isStrict: false,
};

test("what a template may make, and how deep it may go, has limits", () => {
  const few = parseGoTemplate("{{big}}".repeat(4), options);
  assert.equal(few({}).length, 4 * 1024 * 1024);
  const wrong = { code: "invalid" };
  assert.throws(() => parseGoTemplate("{{big}}".repeat(1_000), options)({}), wrong);
  assert.throws(() => parseGoTemplate('{{printf "%99999999s" "x"}}', options)({}), wrong);
  assert.equal(parseGoTemplate('{{printf "%4s" "x"}}', options)({}), "   x");
  const nested = (depth: number) => `{{${"(".repeat(depth)}1${")".repeat(depth)}}}`;
  assert.equal(parseGoTemplate(nested(50), options)({}), "1");
  assert.throws(() => parseGoTemplate(nested(200_000), options), wrong);
});
