// Which version of tsswarm this is.

import { readFileSync } from "node:fs";

/** From the package.json that the compiled program lies beside. */
export const version: string = (
  JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as {
    readonly version: string;
  }
).version;
