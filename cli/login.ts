// `tsswarm login` and `tsswarm logout`

import type { DockerCommand } from "./command.ts";
import {
  type Credentials,
  eraseCredentials,
  registryNamed,
  storeCredentials,
} from "./credentials.ts";
import { readLine, readSecret } from "./secret-input.ts";
import type { Terminal } from "./terminal.ts";

interface LoginFlags {
  readonly username?: string;
  readonly password?: string;
  readonly passwordStdin?: boolean;
}

export function addLoginCommands(program: DockerCommand, open: () => Terminal): void {
  program
    .command("login")
    .description("Authenticate to a registry")
    .usage("[OPTIONS] [SERVER]")
    .argument("[server]")
    .option("-u, --username <string>", "Username")
    .option(
      "-p, --password <string>",
      "Password (other programs can read it: use --password-stdin)",
    )
    .option("--password-stdin", "Take the password from standard input")
    .action((server: string | undefined, flags: LoginFlags) => login(open(), server ?? "", flags));
  program
    .command("logout")
    .description("Log out from a registry")
    .usage("[SERVER]")
    .argument("[server]")
    .action((server: string | undefined) => logout(open(), server ?? ""));
}

async function login(terminal: Terminal, server: string, flags: LoginFlags): Promise<void> {
  if (flags.password !== undefined && flags.passwordStdin === true)
    throw new Error("conflicting options: cannot specify both --password and --password-stdin");
  if (flags.passwordStdin === true && flags.username === undefined)
    throw new Error("the --password-stdin option requires --username to be set");
  if (flags.password !== undefined)
    terminal.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
  if (flags.username === undefined && process.stdin.isTTY !== true)
    throw new Error(
      "cannot perform an interactive login from a non TTY device: give --username, and the password with --password-stdin",
    );
  const username = flags.username ?? (await readLine("Username: "));
  const asked = flags.passwordStdin === true ? "" : "Password: ";
  const password = flags.password ?? (await readSecret(asked));
  const credentials: Credentials = { username, password, serveraddress: registryNamed(server) };
  const { Status, IdentityToken } = await terminal.client.post<{
    Status?: string;
    IdentityToken?: string;
  }>("/auth", { body: credentials });
  const stored = IdentityToken
    ? { username, identitytoken: IdentityToken, serveraddress: credentials.serveraddress }
    : credentials;
  if (await storeCredentials(terminal.configFolder, stored))
    terminal.warn(
      `\nWARNING! Your credentials are stored unencrypted in '${terminal.configFolder}/config.json'.\nConfigure a credential helper to remove this warning.\n\n`,
    );
  terminal.print(`${Status ?? "Login Succeeded"}\n`);
}

async function logout(terminal: Terminal, server: string): Promise<void> {
  const registry = registryNamed(server);
  if (await eraseCredentials(terminal.configFolder, registry))
    terminal.print(`Removing login credentials for ${registry}\n`);
  else terminal.print(`Not logged in to ${registry}\n`);
}
