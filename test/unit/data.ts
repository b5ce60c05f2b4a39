// Tables of cases and recorded facts stand in .yaml files beside the tests that use them.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { parse } from "yaml";

/** Compiled tests are in dist/, their data stays in the source tree. */
const unit = new URL("../../../test/unit/", import.meta.url);

/** The text of a file; its path is relative to test/unit. */
export function dataText(path: string): string {
  return readFileSync(new URL(path, unit), "utf8");
}

/** The cases of a table; there is at least one. */
export function casesOf<Case>(path: string): readonly Case[] {
  const cases: readonly Case[] = parse(dataText(path));
  assert.ok(cases.length > 0, `${path} holds cases`);
  return cases;
}

/** The files of a folder whose names end so, sorted; there is at least one. */
export function dataFiles(folder: string, ending: string): readonly string[] {
  const files = readdirSync(new URL(folder, unit)).filter((file) => file.endsWith(ending));
  assert.ok(files.length > 0, `${folder} holds files named *${ending}`);
  return files.sort();
}
