// Templates of Go's, as Swarm has them in a task's environment, host name and mounts ({{.Task.Slot}}), and Docker in tags of logs. Pure.

import { SwarmError } from "./kit/errors.ts";

export interface TemplateFacts {
  readonly Service: {
    readonly ID: string;
    readonly Name: string;
    readonly Labels: Readonly<Record<string, string>>;
  };
  readonly Node: {
    readonly ID: string;
    readonly Hostname: string;
    readonly Platform: { readonly Architecture: string; readonly OS: string };
  };
  readonly Task: { readonly ID: string; readonly Name: string; readonly Slot: string };
}

/** Fields, and `index .Service.Labels "key"`. Throws `invalid` naming what it does not know. */
export function expandTemplate(text: string, facts: object): string {
  if (/\{\{(?!.*\}\})/s.test(text))
    throw new SwarmError("invalid", `a template in "${text}" is not closed with }}`);
  return text.replace(/\{\{-?\s*(.*?)\s*-?\}\}/gs, (_, action: string) => evaluate(action, facts));
}

function evaluate(action: string, facts: object): string {
  const indexed = /^index\s+(\.[\w.]+)\s+"((?:[^"\\]|\\.)*)"$/.exec(action);
  if (indexed !== null) {
    const map = look(indexed[1] ?? "", facts);
    const value = typeof map === "object" ? map[indexed[2] ?? ""] : undefined;
    return typeof value === "string" ? value : "";
  }
  const value = /^\.[\w.]+$/.test(action) ? look(action, facts) : undefined;
  if (typeof value === "string") return value;
  throw new SwarmError("invalid", `unknown template {{${action}}}`);
}

type Facts = string | { readonly [key: string]: Facts };

function look(path: string, facts: object): Facts | undefined {
  let at: Facts | undefined = facts as Facts;
  for (const part of path.slice(1).split("."))
    at = typeof at === "object" && Object.hasOwn(at, part) ? at[part] : undefined;
  return at;
}
