// Which code brings which command: loaded when the command is asked for, so that each starts as if it were alone.

import type { DockerCommand } from "./command.ts";
import type { Doors } from "./doors.ts";
import type { Terminal } from "./terminal.ts";

/** What commands are made of. */
export interface Ground {
  readonly program: DockerCommand;
  readonly open: () => Terminal;
  readonly doors: Doors;
  /** Where `lab` leaves its exit code. */
  readonly result: { code: number };
}

interface Family {
  /** The first words by which its commands are called. */
  readonly words: readonly string[];
  add(ground: Ground): Promise<void>;
}

export const families: readonly Family[] = [
  {
    words: ["swarm"],
    add: async ({ program, open }) => (await import("./swarm.ts")).addSwarmCommands(program, open),
  },
  {
    words: ["node"],
    add: async ({ program, open }) => (await import("./node.ts")).addNodeCommands(program, open),
  },
  {
    words: ["service"],
    add: async ({ program, open }) =>
      (await import("./service.ts")).addServiceCommands(program, open),
  },
  {
    words: ["stack"],
    add: async ({ program, open }) =>
      (await import("./stack/commands.ts")).addStackCommands(program, open),
  },
  {
    words: ["network"],
    add: async ({ program, open }) =>
      (await import("./network.ts")).addNetworkCommands(program, open),
  },
  {
    words: ["secret", "config"],
    add: async ({ program, open }) => {
      const { addFileCommands } = await import("./secret.ts");
      addFileCommands(program, "secret", open);
      addFileCommands(program, "config", open);
    },
  },
  {
    words: [
      "ps",
      "inspect",
      "logs",
      "exec",
      "container",
      "run",
      "create",
      "attach",
      "cp",
      "stop",
      "restart",
      "kill",
      "rm",
      "start",
      "pause",
      "unpause",
      "rename",
      "wait",
      "top",
      "port",
      "diff",
      "export",
      "stats",
      "commit",
      "update",
    ],
    add: async ({ program, open }) => {
      const { addContainerCommands } = await import("./container.ts");
      const { addExecCommand } = await import("./exec.ts");
      const { addContainerGroup } = await import("./container-commands.ts");
      addContainerCommands(program, open);
      addExecCommand(program, open);
      addContainerGroup(program, open);
    },
  },
  {
    words: [
      "pull",
      "images",
      "image",
      "build",
      "push",
      "tag",
      "save",
      "load",
      "import",
      "history",
      "rmi",
    ],
    add: async ({ program, open }) => {
      const { addImages, addPull } = await import("./image.ts");
      const { addImageGroup } = await import("./image-commands.ts");
      addPull(program, open);
      addImages(program, "images", open);
      addImageGroup(program, open);
    },
  },
  {
    words: ["volume"],
    add: async ({ program, open }) =>
      (await import("./volume.ts")).addVolumeCommands(program, open),
  },
  {
    words: ["search"],
    add: async ({ program, open }) => (await import("./search.ts")).addSearchCommand(program, open),
  },
  {
    words: ["plugin"],
    add: async ({ program, open }) =>
      (await import("./plugin.ts")).addPluginCommands(program, open),
  },
  {
    words: ["system", "events", "builder"],
    add: async ({ program, open }) =>
      (await import("./system-group.ts")).addSystemGroup(program, open),
  },
  {
    words: ["version", "info"],
    add: async ({ program, open }) =>
      (await import("./system.ts")).addSystemCommands(program, open),
  },
  {
    words: ["doctor"],
    add: async ({ program, open }) => (await import("./doctor.ts")).addDoctorCommand(program, open),
  },
  {
    words: ["context"],
    add: async ({ program, open }) =>
      (await import("./context.ts")).addContextCommands(program, open),
  },
  {
    words: ["login", "logout"],
    add: async ({ program, open }) => (await import("./login.ts")).addLoginCommands(program, open),
  },
  {
    words: ["daemon", "agent", "manager"],
    add: async ({ program, doors }) =>
      (await import("./daemon.ts")).addDaemonCommands(program, doors),
  },
  {
    words: ["lab"],
    add: async ({ program, doors, result }) => {
      program
        .command("lab")
        .description("Several hosts on this machine, for trying and testing")
        .argument("[args...]")
        .helpOption(false)
        .allowUnknownOption()
        .passThroughOptions()
        .action(async (rest: string[]) => {
          result.code = await doors.lab(rest);
        });
    },
  },
];

/** Adds the family that has this first word; all of them for any other word, and for none. */
export async function addFamilies(ground: Ground, word: string | undefined): Promise<void> {
  const own = families.find(({ words }) => word !== undefined && words.includes(word));
  for (const family of own === undefined ? families : [own]) await family.add(ground);
  if (own !== undefined) return;
  const { addCompletionCommand } = await import("./completion.ts");
  addCompletionCommand(ground.program, () => ground.doors.labCommands());
}
