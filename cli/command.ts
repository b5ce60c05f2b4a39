// Commands as Docker's flags behave: --flag=false, -n=5, and its words for usage errors.

import { Command, CommanderError, Option } from "commander";
import { UsageError } from "./values.ts";

/** Ends the command with this code after what it has printed. */
export class ExitCode extends Error {
  override readonly name = "ExitCode";
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

const usageCode = 125;

export class DockerCommand extends Command {
  override createCommand(name?: string): DockerCommand {
    return new DockerCommand(name);
  }

  /** Says where to read more of just this command, and ends with Docker's code for wrong flags. */
  override error(message: string, options: { exitCode?: number; code?: string } = {}): never {
    const words: string[] = [];
    for (let command: Command | null = this; command !== null; command = command.parent)
      words.unshift(command.name());
    const isFlags = ["commander.unknownOption", "commander.optionMissingArgument"].includes(
      options.code ?? "",
    );
    const hint = `See '${words.join(" ")} --help'.`;
    super.error(`${usageSentence(message)}\n${hint}`, {
      ...options,
      exitCode: isFlags ? usageCode : (options.exitCode ?? 1),
    });
  }

  override parseOptions(argv: string[]): ReturnType<Command["parseOptions"]> {
    return super.parseOptions(this.#normalize(argv));
  }

  /** Turns what commander does not know into what it knows; words after the first operand may belong to a container. */
  #normalize(argv: readonly string[]): string[] {
    const result: string[] = [];
    for (let i = 0; i < argv.length; i++) {
      const word = argv[i] ?? "";
      if (word === "--" || !word.startsWith("-") || word === "-")
        return [...result, ...this.#rest(argv.slice(i))];
      const equals = word.indexOf("=");
      const name = equals < 0 ? word : word.slice(0, equals);
      const option = this.options.find((each) => each.short === name || each.long === name);
      const takesValue = option?.required === true || option?.optional === true;
      if (option === undefined) result.push(word);
      else if (takesValue && equals > 0) result.push(name, word.slice(equals + 1));
      else if (takesValue) {
        result.push(word);
        const value = argv[++i];
        if (value !== undefined) result.push(value);
      } else if (equals < 0) result.push(word);
      else if (["true", "1"].includes(word.slice(equals + 1))) result.push(name);
      else if (!["false", "0"].includes(word.slice(equals + 1))) result.push(word);
      else result.push(...this.#denial(option.long ?? ""));
    }
    return result;
  }

  /** `--tty=false` where that is another thing than not to say `--tty`. */
  #denial(long: string): readonly string[] {
    const denial = long.replace(/^--/, "--no-");
    return this.options.some((each) => each.long === denial) ? [denial] : [];
  }

  /** A flag that may also be taken back: `--tty=false`. */
  deniable(flags: string, description: string): this {
    const denial = flags.replace(/^(-\w, )?--/, "--no-");
    return this.option(flags, description).addOption(new Option(denial).hideHelp());
  }

  #rest(argv: readonly string[]): string[] {
    const [first, ...others] = argv;
    if (first === undefined) return [];
    // Options may follow operands, unless the operands are a command line for a container or a subcommand.
    const stops = first === "--" || passThrough.has(this) || this.commands.length > 0;
    return stops ? [...argv] : [first, ...this.#normalize(others)];
  }

  /** What follows the first operand belongs to the container. */
  forwarding(): this {
    passThrough.add(this);
    return this.passThroughOptions();
  }
}

const passThrough = new WeakSet<Command>();

/** The exit code of a command that ended with this error, after saying it as Docker's client does. */
export function explain(error: unknown, write: (text: string) => void): number {
  if (error instanceof ExitCode) return error.code;
  if (error instanceof CommanderError) return error.exitCode;
  write(`${error instanceof Error ? error.message : String(error)}\n`);
  return error instanceof UsageError ? usageCode : 1;
}

/** Commander's sentences about usage in Docker's words. */
function usageSentence(text: string): string {
  return text
    .replace(/^error: unknown option '(--?[^']+)'.*$/m, "unknown flag: $1")
    .replace(/^error: option '(.+)' argument missing$/m, "flag needs an argument: $1")
    .replace(
      /^error: missing required argument '([^']+)'$/m,
      (_, name: string) => `requires the argument ${name.toUpperCase()}`,
    )
    .replace(/^error: /m, "");
}
