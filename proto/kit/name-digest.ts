// A short fingerprint of what the keeper answers names from, equal on both ends of its socket.

import { createHash } from "node:crypto";
import type { NameTable, ServeNames } from "./keeper.ts";

/** 16 hexadecimal digits; the order of a table's entries does not matter. */
export function nameDigest(told: NameTable | ServeNames): string {
  const text = JSON.stringify(told, (_key, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}
