// `tsswarm exec`: a command in a running container, with a terminal if wanted.

import { type DockerCommand, ExitCode } from "./command.ts";
import { converse, terminalSize } from "./conversation.ts";
import type { Terminal } from "./terminal.ts";
import { collect, environment, UsageError } from "./values.ts";

export interface ExecFlags {
  readonly detach?: boolean;
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
  readonly interactive?: boolean;
  readonly privileged?: boolean;
  readonly tty?: boolean;
  readonly user?: string;
  readonly workdir?: string;
}

export function addExecCommand(program: DockerCommand, open: () => Terminal): void {
  const exec = program
    .command("exec")
    .description("Execute a command in a running container")
    .usage("[OPTIONS] CONTAINER COMMAND [ARG...]")
    .argument("<container>")
    .argument("<command...>") as DockerCommand;
  addExecFlags(exec).action(async (name: string, command: string[], flags: ExecFlags) => {
    const code = await execute(open(), name, command, flags);
    if (code !== 0) throw new ExitCode(code);
  });
}

/** Those of `exec`, and of `service exec`. */
export function addExecFlags(exec: DockerCommand): DockerCommand {
  exec
    .option("-d, --detach", "Detached mode: run command in the background")
    .option("-e, --env <list>", "Set environment variables", collect)
    .option("--env-file <list>", "Read in a file of environment variables", collect)
    .option("-i, --interactive", "Keep STDIN open even if not attached")
    .option("--privileged", "Give extended privileges to the command")
    .option("-t, --tty", "Allocate a pseudo-TTY")
    .option("-u, --user <string>", "Username or UID (format: <name|uid>[:<group|gid>])")
    .option("-w, --workdir <string>", "Working directory inside the container");
  return exec.forwarding();
}

/** The command's exit code. */
export async function execute(
  terminal: Terminal,
  name: string,
  command: readonly string[],
  flags: ExecFlags,
): Promise<number> {
  const isTty = flags.tty === true;
  const isAttached = flags.detach !== true;
  if (isTty && isAttached && flags.interactive === true && process.stdin.isTTY !== true)
    throw new UsageError("the input device is not a TTY");
  const size = isTty && terminal.isInteractive ? terminalSize() : null;
  const { client } = terminal;
  const { Id: id } = await client.post<{ Id: string }>(
    `/containers/${encodeURIComponent(name)}/exec`,
    {
      body: {
        AttachStdin: isAttached && flags.interactive === true,
        AttachStdout: isAttached,
        AttachStderr: isAttached,
        Tty: isTty,
        Cmd: command,
        Env: environment(flags.env ?? [], flags.envFile ?? [], terminal.environment),
        User: flags.user ?? "",
        WorkingDir: flags.workdir ?? "",
        Privileged: flags.privileged === true,
        ...(size === null ? {} : { ConsoleSize: [size.h, size.w] }),
      },
    },
  );
  if (!isAttached) {
    await client.post(`/exec/${id}/start`, { body: { Detach: true, Tty: isTty } });
    return 0;
  }
  const { socket, head } = await client.hijack(`/exec/${id}/start`, { Detach: false, Tty: isTty });
  const isInteractive = flags.interactive === true;
  await converse(terminal, socket, head, {
    resizePath: `/exec/${id}/resize`,
    isTty,
    isInteractive,
  });
  const { ExitCode: code } = await client.get<{ ExitCode?: number | null }>(`/exec/${id}/json`);
  return code ?? 0;
}
