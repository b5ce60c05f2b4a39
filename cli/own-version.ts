// The version of this program, from its package.json.

import { createRequire } from "node:module";

export function ownVersion(): string {
  const require = createRequire(import.meta.url);
  return (require("../../package.json") as { version: string }).version;
}
