// A terminal that keeps what is printed, and a daemon on a real socket that keeps what is asked.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { DaemonClient } from "../../../cli/client.ts";
import { explain } from "../../../cli/command.ts";
import { buildProgram } from "../../../cli/program.ts";
import type { Terminal } from "../../../cli/terminal.ts";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly body: unknown;
  /** What X-Registry-Auth says, where it is sent. */
  readonly auth?: unknown;
}

/** What the daemon answers: the first whose key, "METHOD /path", fits; anything else is 404. */
export type Answers = Readonly<Record<string, unknown>>;

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly asked: readonly Asked[];
}

export const now = Date.parse("2026-01-01T12:00:00Z");

/** Runs one command line against a daemon that answers so. */
export async function runCommand(
  line: readonly string[],
  answers: Answers = {},
  options: { readonly configFolder?: string; readonly environment?: Terminal["environment"] } = {},
): Promise<Outcome> {
  const asked: Asked[] = [];
  const folder = mkdtempSync(join(tmpdir(), "tsswarm-cli-"));
  const path = join(folder, "docker.sock");
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (part) => {
      text += part;
    });
    request.on("end", () => {
      const url = new URL(request.url ?? "/", "http://daemon");
      const name = decodeURIComponent(url.pathname.replace(/^\/v[\d.]+/, ""));
      asked.push({
        method: request.method ?? "",
        path: name,
        query: Object.fromEntries(url.searchParams),
        body: text === "" ? null : JSON.parse(text),
        ...authOf(request.headers["x-registry-auth"]),
      });
      const answer = answers[`${request.method} ${name}`];
      response.setHeader("Content-Type", "application/json");
      response.statusCode = answer === undefined ? 404 : 200;
      response.end(JSON.stringify(answer ?? { message: `no such thing: ${name}` }));
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  let [out, err, code] = ["", "", 0];
  const terminal: Terminal = {
    client: new DaemonClient(`unix://${path}`),
    configFolder: options.configFolder ?? folder,
    flags: {},
    print: (text) => {
      out += text;
    },
    warn: (text) => {
      err += text;
    },
    isInteractive: false,
    now: () => now,
    environment: { HOME: "/root", ...options.environment },
  };
  const never = () => Promise.reject(new Error("not in this test"));
  const doors = {
    daemon: never,
    agent: never,
    manager: never,
    lab: never,
    labCommands: async () => new Command("lab"),
  };
  const program = await buildProgram(
    doors,
    () => terminal,
    { code: 0 },
    {
      writeErr: terminal.warn,
      writeOut: terminal.print,
    },
  );
  try {
    await program.parseAsync(line, { from: "user" });
  } catch (error) {
    code = explain(error, (text) => terminal.warn(text));
  } finally {
    await new Promise((resolve) => server.close(resolve));
    rmSync(folder, { recursive: true, force: true });
  }
  return { code, out, err, asked };
}

function authOf(header: string | string[] | undefined): Pick<Asked, "auth"> {
  if (typeof header !== "string") return {};
  return { auth: JSON.parse(Buffer.from(header, "base64url").toString("utf8")) };
}
