// Commands as Docker's flags behave: --flag=false, -n=5, and its words for usage errors.

import { type Argument, Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { messageOf } from "../proto/kit/errors.ts";
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
/** Commander's codes for what Docker counts as wrong flags. */
const flagErrors: ReadonlySet<string> = new Set([
  "commander.unknownOption",
  "commander.optionMissingArgument",
  "commander.invalidArgument",
]);

export class DockerCommand extends Command {
  #hasUsage = false;

  override createCommand(name?: string): DockerCommand {
    return new DockerCommand(name);
  }

  /** Says where to read more of just this command, and ends with Docker's code for wrong flags. */
  override error(message: string, options: { exitCode?: number; code?: string } = {}): never {
    const words: string[] = [];
    for (let command: Command | null = this; command !== null; command = command.parent)
      words.unshift(command.name());
    const path = words.join(" ");
    const code = options.code ?? "";
    const sentence =
      code === "commander.missingArgument"
        ? `'${path}' ${this.#lack(message)}\nUsage: ${path} ${this.usage()}`
        : usageSentence(message);
    super.error(`${sentence}\nSee '${path} --help'.`, {
      ...options,
      exitCode: flagErrors.has(code) ? usageCode : (options.exitCode ?? 1),
    });
  }

  /** What a value of a flag is refused for is said together with the flag. */
  override addOption(option: Option): this {
    const parse = option.parseArg;
    if (parse !== undefined)
      option.argParser((text: string, before: unknown) => {
        try {
          return parse(text, before);
        } catch (error) {
          throw error instanceof UsageError ? new InvalidArgumentError(error.message) : error;
        }
      });
    return super.addOption(option);
  }

  #lack(message: string): string {
    const name = /'([^']+)'/.exec(message)?.[1] ?? "";
    const argument = this.registeredArguments.find((each) => each.name() === name);
    return `requires the argument ${argument === undefined ? name : wordOf(argument)}`;
  }

  override usage(text: string): this;
  override usage(): string;
  /** Where none was given, Docker's form: [OPTIONS] SERVICE [SERVICE...] */
  override usage(text?: string): this | string {
    if (text !== undefined) {
      this.#hasUsage = true;
      return super.usage(text);
    }
    if (this.#hasUsage) return super.usage();
    const words = this.registeredArguments.map((argument) => {
      const word = wordOf(argument);
      if (argument.variadic) return argument.required ? `${word} [${word}...]` : `[${word}...]`;
      return argument.required ? word : `[${word}]`;
    });
    const options = this.options.some((option) => !option.hidden) ? ["[OPTIONS]"] : [];
    return [...options, ...(this.commands.length > 0 ? ["COMMAND"] : []), ...words].join(" ");
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

/** An argument as Docker's usage has it: `<services...>` is SERVICE. */
function wordOf(argument: Argument): string {
  return (argument.variadic ? argument.name().replace(/s$/, "") : argument.name()).toUpperCase();
}

/** The exit code of a command that ended with this error, after saying it as Docker's client does. */
export function explain(error: unknown, write: (text: string) => void): number {
  if (error instanceof ExitCode) return error.code;
  // A group of commands alone, which shows what there is: no mistake, as with Docker's client.
  if (error instanceof CommanderError) return error.code === "commander.help" ? 0 : error.exitCode;
  write(`${sentenceOf(error)}\n`);
  return error instanceof UsageError ? usageCode : 1;
}

/** Of what this machine refuses (a file that is not there) as Docker's client says it: open /x: no such file or directory. */
function sentenceOf(error: unknown): string {
  const text = messageOf(error);
  const [, why, call, path] = /^E[A-Z]+: (.+), (\w+) '([^']*)'$/.exec(text) ?? [];
  return why === undefined ? text : `${call} ${path}: ${why}`;
}

/** Commander's sentences about usage in Docker's words. */
function usageSentence(text: string): string {
  return text
    .replace(/^error: unknown option '(--?[^']+)'.*$/m, "unknown flag: $1")
    .replace(/^error: option '(.+)' argument missing$/m, "flag needs an argument: $1")
    .replace(
      /^error: option '(.+?)(?: <[^']*>)?' argument '(.*)' is invalid\. /s,
      'invalid argument "$2" for "$1" flag: ',
    )
    .replace(/^error: /m, "");
}
