// `tsswarm completion bash|zsh|fish`: scripts made from the argument tree, so that they are never out of date.

import type { Command } from "commander";
import type { DockerCommand } from "./command.ts";
import { UsageError } from "./values.ts";

/** `lab` gives the lab's commands, which are not loaded for anything else. */
export function addCompletionCommand(program: DockerCommand, lab: () => Promise<Command>): void {
  program
    .command("completion")
    .description("Print a script for tab completion")
    .usage("bash|zsh|fish")
    .argument("<shell>")
    .action(async (shell: string) => {
      const script = { bash, zsh, fish }[shell];
      if (script === undefined)
        throw new UsageError(`no completion for "${shell}": bash, zsh or fish is expected`);
      const tree = branches(program, []).filter((branch) => branch.path !== "lab");
      program.configureOutput().writeOut?.(script([...tree, ...branches(await lab(), ["lab"])]));
    });
}

interface Branch {
  /** The words before what is completed: "", "service", "service create". */
  readonly path: string;
  readonly words: readonly string[];
}

function branches(command: Command, path: readonly string[]): readonly Branch[] {
  const help = command.createHelp();
  const subcommands = help.visibleCommands(command).filter((each) => each.name() !== "help");
  const options = help.visibleOptions(command).map((each) => each.long ?? each.short ?? "");
  return [
    { path: path.join(" "), words: [...subcommands.map((each) => each.name()), ...options].sort() },
    ...subcommands.flatMap((each) => branches(each, [...path, each.name()])),
  ];
}

function cases(tree: readonly Branch[]): string {
  return tree
    .map((branch) => `    "${branch.path}") words="${branch.words.join(" ")}" ;;`)
    .join("\n");
}

/** A pattern for `case`: the paths there are. Other words are values and operands. */
function paths(tree: readonly Branch[]): string {
  return tree.flatMap(({ path }) => (path === "" ? [] : [`"${path}"`])).join("|");
}

function bash(tree: readonly Branch[]): string {
  return `_tsswarm() {
  local path="" word words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
      ${paths(tree)}) path="\${path:+$path }$word" ;;
    esac
  done
  case $path in
${cases(tree)}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _tsswarm tsswarm
`;
}

function zsh(tree: readonly Branch[]): string {
  return `#compdef tsswarm
_tsswarm() {
  local path="" word words_now=""
  for word in \${words[2,CURRENT-1]}; do
    case "\${path:+$path }$word" in
      ${paths(tree)}) path="\${path:+$path }$word" ;;
    esac
  done
  case $path in
${cases(tree).replaceAll('words="', 'words_now="')}
  esac
  if [[ -n $words_now ]]; then compadd -- \${=words_now}; else _files; fi
}
compdef _tsswarm tsswarm
`;
}

function fish(tree: readonly Branch[]): string {
  const lines = tree.map((branch) => {
    const words = branch.words.join(" ");
    return `complete -c tsswarm -n 'test "$(__tsswarm_path)" = "${branch.path}"' -f -a '${words}'`;
  });
  return `function __tsswarm_path
  set -l path
  for word in (commandline -opc)[2..-1]
    if contains -- (string join ' ' $path $word) ${tree.map((branch) => `'${branch.path}'`).join(" ")}
      set -a path $word
    end
  end
  string join ' ' $path
end
${lines.join("\n")}
`;
}
