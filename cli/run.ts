// `tsswarm run`, `create`, `start -a`, `attach`: containers made by hand, and a conversation with them.

import { existsSync, writeFileSync } from "node:fs";
import { DaemonError, jsonLines } from "./client.ts";
import { type DockerCommand, ExitCode } from "./command.ts";
import { converse } from "./conversation.ts";
import { pull } from "./image.ts";
import { addRunFlags, type RunBody, type RunFlags, runBody } from "./run-spec.ts";
import { silenced, type Terminal } from "./terminal.ts";
import { UsageError } from "./values.ts";

const daemonCode = 125;

export function addRun(parent: DockerCommand, open: () => Terminal): void {
  const run = parent
    .command("run")
    .description("Create and run a new container from an image")
    .usage("[OPTIONS] IMAGE [COMMAND] [ARG...]")
    .argument("<image>")
    .argument("[command...]")
    .option("-d, --detach", "Run container in background and print container ID") as DockerCommand;
  addRunFlags(run)
    .forwarding()
    .action(async (image: string, command: string[], flags: RunFlags) => {
      const code = await ownFailure(open(), (terminal) => execute(terminal, image, command, flags));
      if (code !== 0) throw new ExitCode(code);
    });
}

export function addCreate(parent: DockerCommand, open: () => Terminal): void {
  const create = parent
    .command("create")
    .description("Create a new container")
    .usage("[OPTIONS] IMAGE [COMMAND] [ARG...]")
    .argument("<image>")
    .argument("[command...]") as DockerCommand;
  addRunFlags(create)
    .forwarding()
    .action(async (image: string, command: string[], flags: RunFlags) => {
      const terminal = open();
      const body = runBody(image, command, flags, false, terminal.environment);
      terminal.print(`${await make(terminal, image, body, flags)}\n`);
    });
}

/** Everything that goes wrong before the container's own command is 125, but for that command itself. */
async function ownFailure(
  terminal: Terminal,
  run: (terminal: Terminal) => Promise<number>,
): Promise<number> {
  try {
    return await run(terminal);
  } catch (error) {
    if (error instanceof ExitCode || error instanceof UsageError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    const words = error instanceof DaemonError ? `tsswarm: ${message}` : message;
    terminal.warn(`${words}\n\nRun 'tsswarm run --help' for more information\n`);
    if (/executable file not found|no such file or directory/.test(message)) return 127;
    if (/permission denied|is a directory/.test(message)) return 126;
    return daemonCode;
  }
}

async function execute(
  terminal: Terminal,
  image: string,
  command: readonly string[],
  flags: RunFlags,
): Promise<number> {
  const isDetached = flags["detach"] === true;
  const body = runBody(image, command, flags, isDetached, terminal.environment);
  if (body.Tty && body.AttachStdin && process.stdin.isTTY !== true)
    throw new UsageError("the input device is not a TTY");
  const id = await make(terminal, image, body, flags);
  if (isDetached) {
    await terminal.client.post(`/containers/${id}/start`);
    terminal.print(`${id}\n`);
    return 0;
  }
  return attached(terminal, id, body);
}

/** Its id. An image that is not here is pulled. */
async function make(
  terminal: Terminal,
  image: string,
  body: RunBody,
  flags: RunFlags,
): Promise<string> {
  const { cidfile, name, pull: policy = "missing", platform } = flags;
  if (typeof cidfile === "string" && existsSync(cidfile))
    throw new Error(
      `container ID file found, make sure the other container isn't running or delete ${cidfile}`,
    );
  const query = {
    ...(typeof name === "string" ? { name } : {}),
    ...(typeof platform === "string" ? { platform } : {}),
  };
  const create = () =>
    terminal.client.post<{ Id: string; Warnings?: readonly string[] | null }>(
      "/containers/create",
      { query, body },
    );
  const fetch = () =>
    pull(toErrors(flags["quiet"] === true ? silenced(terminal) : terminal), image, false);
  if (policy === "always") await fetch();
  const made = await create().catch(async (error: unknown) => {
    const isMissing =
      error instanceof DaemonError && error.status === 404 && /No such image/.test(error.message);
    if (!isMissing || policy !== "missing") throw error;
    terminal.warn(`Unable to find image '${image}' locally\n`);
    await fetch();
    return create();
  });
  for (const warning of made.Warnings ?? []) terminal.warn(`WARNING: ${warning}\n`);
  if (typeof cidfile === "string") writeFileSync(cidfile, made.Id);
  return made.Id;
}

/** What is pulled on the way is no output of the container's. */
function toErrors(terminal: Terminal): Terminal {
  return { ...terminal, print: (text) => terminal.warn(text) };
}

/** Starts it with our streams on it; its exit code. */
async function attached(terminal: Terminal, id: string, body: RunBody): Promise<number> {
  const { client } = terminal;
  const query = new URLSearchParams({ stream: "1" });
  if (body.AttachStdin) query.set("stdin", "1");
  if (body.AttachStdout) query.set("stdout", "1");
  if (body.AttachStderr) query.set("stderr", "1");
  const { socket, head } = await client.hijack(`/containers/${id}/attach?${query}`, undefined);
  const condition = body.HostConfig.AutoRemove ? "removed" : "next-exit";
  // Its head says that the daemon waits: only then it is started.
  const waiting = await client.open("POST", `/containers/${id}/wait`, { query: { condition } });
  const forward = forwardSignals(terminal, id, body.Tty);
  try {
    await converse(terminal, socket, head, {
      resizePath: `/containers/${id}/resize`,
      isTty: body.Tty,
      isInteractive: body.AttachStdin,
      begun: async () => {
        await client.post(`/containers/${id}/start`);
      },
    });
    for await (const answer of jsonLines(waiting))
      return (answer as { StatusCode: number }).StatusCode;
    return daemonCode;
  } finally {
    waiting.destroy();
    forward.stop();
  }
}

/** What would end us goes to the container instead; with a terminal it gets the keys themselves. */
function forwardSignals(terminal: Terminal, id: string, isTty: boolean): { stop(): void } {
  const names = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;
  const send = (signal: string) =>
    void terminal.client.post(`/containers/${id}/kill`, { query: { signal } }).catch(() => {});
  if (isTty) return { stop: () => {} };
  for (const name of names) process.on(name, send);
  return {
    stop: () => {
      for (const name of names) process.off(name, send);
    },
  };
}

export function addAttach(parent: DockerCommand, open: () => Terminal): void {
  parent
    .command("attach")
    .description("Attach local standard input, output, and error streams to a running container")
    .argument("<container>")
    .option("--no-stdin", "Do not attach STDIN")
    .action(async (name: string, flags: { stdin: boolean }) => {
      const terminal = open();
      const { client } = terminal;
      const path = `/containers/${encodeURIComponent(name)}`;
      const { Id, State, Config } = await client.get<{
        Id: string;
        State: { Running: boolean };
        Config: { Tty: boolean; OpenStdin: boolean };
      }>(`${path}/json`);
      if (!State.Running)
        throw new Error("You cannot attach to a stopped container, start it first");
      const isInteractive = flags.stdin && Config.OpenStdin;
      const query = `stream=1&stdout=1&stderr=1${isInteractive ? "&stdin=1" : ""}`;
      const waiting = client.post<{ StatusCode: number }>(`/containers/${Id}/wait`);
      waiting.catch(() => {});
      const { socket, head } = await client.hijack(`/containers/${Id}/attach?${query}`, undefined);
      const resizePath = `/containers/${Id}/resize`;
      await converse(terminal, socket, head, { resizePath, isTty: Config.Tty, isInteractive });
      const after = await client
        .get<{ State: { Running: boolean } }>(`/containers/${Id}/json`)
        .catch(() => null);
      if (after?.State.Running === true) return;
      const { StatusCode } = await waiting;
      if (StatusCode !== 0) throw new ExitCode(StatusCode);
    });
}
