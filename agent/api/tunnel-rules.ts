// What a manager's node may ask of another node's API, and nothing else: to look at a task's container, and to run a command in it.

const container = /^\/containers\/([^/?]+)\/([a-z]+)(?:\?|$)/;
const exec = /^\/exec\/([0-9A-Za-z]+)\/(start|resize|json)(?:\?|$)/;

const ofContainer: Readonly<Record<string, readonly string[]>> = {
  GET: ["json", "top", "stats", "logs", "changes", "archive"],
  HEAD: ["archive"],
  POST: ["exec", "attach", "resize"],
  PUT: ["archive"],
};

export type Reached =
  | { readonly kind: "container"; readonly name: string; readonly verb: string }
  | { readonly kind: "exec"; readonly id: string };

/** Whom such a request is about; null for one that is about this node alone. `path` has no version. */
export function reached(method: string, path: string): Reached | null {
  const [, id] = exec.exec(path) ?? [];
  if (id !== undefined) return { kind: "exec", id };
  const [, name, verb] = container.exec(path) ?? [];
  if (name === undefined || verb === undefined) return null;
  return ofContainer[method]?.includes(verb) === true
    ? { kind: "container", name: decoded(name), verb }
    : null;
}

/** Whether a container of a task may have this name: web.1.<task id>, or 12 digits or more of its id. Saves a question. */
export function mayBeOfTask(name: string): boolean {
  return /^[0-9a-f]{12,64}$/.test(name) || /\.[0-9a-z]{25}$/.test(name);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
