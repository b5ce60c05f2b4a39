// The host's own name servers, which answer what our names do not.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";

const serversMax = 3;

export interface Resolver {
  /** ip:port */
  readonly servers: readonly string[];
  readonly search: readonly string[];
}

/** From resolv.conf's text. */
export function parseResolver(text: string): Resolver {
  const servers: string[] = [];
  let search: readonly string[] = [];
  for (const line of text.split("\n")) {
    const [keyword, ...values] = line.trim().split(/\s+/);
    const [first = ""] = values;
    if (keyword === "nameserver" && isIP(first) !== 0)
      servers.push(first.includes(":") ? `[${first}]:53` : `${first}:53`);
    else if (keyword === "search" || keyword === "domain") search = values;
  }
  return { servers: servers.slice(0, serversMax), search };
}

/** Without a readable file there are none. */
export function hostResolver(path = "/etc/resolv.conf"): Resolver {
  try {
    return parseResolver(readFileSync(path, "utf8"));
  } catch {
    return { servers: [], search: [] };
  }
}
