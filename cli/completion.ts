// `tsswarm completion bash|zsh|fish`: scripts made from the argument tree, so that they are never out of date.

import type { Command } from "commander";
import type { DockerCommand } from "./command.ts";
import { UsageError } from "./values.ts";

export function addCompletionCommand(program: DockerCommand): void {
  program
    .command("completion")
    .description("Print a script for tab completion")
    .usage("bash|zsh|fish")
    .argument("<shell>")
    .addHelpText("after", '\nExample:\n  eval "$(tsswarm completion bash)"')
    .action((shell: string) => {
      const script = { bash, zsh, fish }[shell];
      if (script === undefined)
        throw new UsageError(`no completion for "${shell}": bash, zsh or fish is expected`);
      program.configureOutput().writeOut?.(script(branches(program, [])));
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

function bash(tree: readonly Branch[]): string {
  return `_tsswarm() {
  local path="" word words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in -*) ;; *) path="\${path:+$path }$word" ;; esac
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
    [[ $word == -* ]] || path="\${path:+$path }$word"
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
  set -l words (commandline -opc)
  string match -v -- '-*' $words[2..-1] | string join ' '
end
${lines.join("\n")}
`;
}
