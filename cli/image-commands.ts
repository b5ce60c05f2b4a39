// `tsswarm image …` and the short forms: push, tag, rmi, save, load, import, history, prune.

import { addBuild } from "./build.ts";
import { jsonLines } from "./client.ts";
import type { DockerCommand } from "./command.ts";
import { authHeaders } from "./credentials.ts";
import { addImages, addPull, parseReference } from "./image.ts";
import { addInspect } from "./inspect.ts";
import { confirmed, sayPruned } from "./prune.ts";
import { openInput, writeOut } from "./streams.ts";
import { ago, humanSize, type Listing, list, shortId } from "./table.ts";
import { forEach, type Terminal } from "./terminal.ts";
import { collect, filters } from "./values.ts";

interface Line {
  readonly status?: string;
  readonly id?: string;
  readonly stream?: string;
  readonly error?: string;
  readonly progressDetail?: { readonly current?: number };
}
type Open = () => Terminal;

export function addImageGroup(program: DockerCommand, open: Open): void {
  const group = program.command("image").description("Manage images") as DockerCommand;
  addBuild(program, open);
  for (const parent of [program, group]) {
    addPush(parent, open);
    addTag(parent, open);
    addSave(parent, open);
    addLoad(parent, open);
    addImport(parent, open);
    addHistory(parent, open);
  }
  addRemove(program, "rmi", open);
  addRemove(group, "rm", open);
  addBuild(group, open);
  addPull(group, open);
  addImages(group, "ls", open);
  addPrune(group, open);
  addInspect(group, open, "images", (name) => `/images/${decodeURIComponent(name)}/json`);
}

/** Each layer's stages, but not its every byte. Throws what the daemon says at the end. */
export async function showLines(
  terminal: Terminal,
  response: AsyncIterable<Buffer>,
  isQuiet: boolean,
): Promise<string> {
  const shown = new Map<string, string>();
  let last = "";
  for await (const line of jsonLines(response) as AsyncIterable<Line>) {
    if (line.error !== undefined) throw new Error(`Error response from daemon: ${line.error}`);
    if (line.stream !== undefined) terminal.print(line.stream);
    if (line.status === undefined) continue;
    last = line.status;
    const text = `${line.id === undefined ? "" : `${line.id}: `}${line.status}`;
    if (isQuiet || (line.id !== undefined && shown.get(line.id) === text)) continue;
    if (line.id !== undefined) shown.set(line.id, text);
    terminal.print(`${text}\n`);
  }
  return last;
}

function addPush(parent: DockerCommand, open: Open): void {
  parent
    .command("push")
    .description("Upload an image to a registry")
    .usage("[OPTIONS] NAME[:TAG]")
    .argument("<name>")
    .option("-a, --all-tags", "Push all tags of an image to the repository")
    .option("-q, --quiet", "Suppress verbose output")
    .action(async (name: string, flags: { allTags?: boolean; quiet?: boolean }) => {
      const terminal = open();
      const { image, tag } = parseReference(name);
      const query = flags.allTags === true ? {} : { tag };
      const response = await terminal.client.open("POST", `/images/${image}/push`, {
        query,
        headers: await authHeaders(terminal.configFolder, image),
      });
      await showLines(terminal, response, flags.quiet === true);
      if (flags.quiet === true) terminal.print(`${image}:${tag}\n`);
    });
}

function addTag(parent: DockerCommand, open: Open): void {
  parent
    .command("tag")
    .description("Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE")
    .usage("SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]")
    .argument("<source>")
    .argument("<target>")
    .action(async (source: string, target: string) => {
      const { image: repo, tag } = parseReference(target);
      await open().client.post(`/images/${source}/tag`, { query: { repo, tag } });
    });
}

function addRemove(parent: DockerCommand, name: string, open: Open): void {
  parent
    .command(name)
    .description("Remove one or more images")
    .usage("[OPTIONS] IMAGE [IMAGE...]")
    .argument("<images...>")
    .option("-f, --force", "Force removal of the image")
    .option("--no-prune", "Do not delete untagged parents")
    .action(async (images: string[], flags: { force?: boolean }) => {
      const terminal = open();
      const query = { force: flags.force === true };
      await forEach(terminal, images, async (image) => {
        const lines = await terminal.client.delete<
          readonly { Untagged?: string; Deleted?: string }[]
        >(`/images/${image}`, { query });
        for (const { Untagged, Deleted } of lines)
          terminal.print(
            Untagged === undefined ? `Deleted: ${Deleted}\n` : `Untagged: ${Untagged}\n`,
          );
      });
    });
}

function addSave(parent: DockerCommand, open: Open): void {
  parent
    .command("save")
    .description("Save one or more images to a tar archive (streamed to STDOUT by default)")
    .usage("[OPTIONS] IMAGE [IMAGE...]")
    .argument("<images...>")
    .option("-o, --output <string>", "Write to a file, instead of STDOUT")
    .action(async (names: string[], flags: { output?: string }) => {
      const response = await open().client.open("GET", "/images/get", { query: { names } });
      await writeOut(response, flags.output);
    });
}

function addLoad(parent: DockerCommand, open: Open): void {
  parent
    .command("load")
    .description("Load an image from a tar archive or STDIN")
    .option("-i, --input <string>", "Read from tar archive file, instead of STDIN")
    .option("-q, --quiet", "Suppress the load output")
    .action(async (flags: { input?: string; quiet?: boolean }) => {
      const terminal = open();
      const stream = await openInput(flags.input ?? null);
      const response = await terminal.client.open("POST", "/images/load", {
        query: { quiet: flags.quiet === true },
        stream,
      });
      await showLines(terminal, response, flags.quiet === true);
    });
}

function addImport(parent: DockerCommand, open: Open): void {
  parent
    .command("import")
    .description("Import the contents from a tarball to create a filesystem image")
    .usage("[OPTIONS] file|URL|- [REPOSITORY[:TAG]]")
    .argument("<source>")
    .argument("[name]")
    .option("-c, --change <list>", "Apply Dockerfile instruction to the created image", collect)
    .option("-m, --message <string>", "Set commit message for imported image")
    .option("--platform <string>", "Set platform of the image")
    .action(
      async (
        source: string,
        name: string | undefined,
        flags: { change?: readonly string[]; message?: string; platform?: string },
      ) => {
        const terminal = open();
        const isRemote = /^https?:\/\//.test(source);
        const content = isRemote ? {} : { stream: await openInput(source === "-" ? null : source) };
        const { image: repo, tag } =
          name === undefined ? { image: "", tag: "" } : parseReference(name);
        const response = await terminal.client.open("POST", "/images/create", {
          query: {
            ...{ fromSrc: isRemote ? source : "-", repo, tag, message: flags.message ?? "" },
            ...{ changes: flags.change ?? [], platform: flags.platform ?? "" },
          },
          ...content,
        });
        terminal.print(`${await showLines(terminal, response, true)}\n`);
      },
    );
}

const historyListing: Listing = {
  headings: {
    ID: "IMAGE",
    CreatedSince: "CREATED",
    CreatedAt: "CREATED AT",
    CreatedBy: "CREATED BY",
    Size: "SIZE",
    Comment: "COMMENT",
  },
  columns: ["{{.ID}}", "{{.CreatedSince}}", "{{.CreatedBy}}", "{{.Size}}", "{{.Comment}}"],
};
const createdByMax = 45;

function addHistory(parent: DockerCommand, open: Open): void {
  parent
    .command("history")
    .description("Show the history of an image")
    .argument("<image>")
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("--no-trunc", "Don't truncate output")
    .option("-q, --quiet", "Only show image IDs")
    .action(async (image: string, flags: { format?: string; trunc: boolean; quiet?: boolean }) => {
      const terminal = open();
      const steps = await terminal.client.get<
        readonly { Id: string; Created: number; CreatedBy: string; Size: number; Comment: string }[]
      >(`/images/${image}/history`);
      const rows = steps.map((step) => {
        const created = new Date(step.Created * 1000).toISOString();
        const by = step.CreatedBy.replaceAll("\n", " ");
        return {
          ID: step.Id.startsWith("<") ? step.Id : shortId(step.Id, !flags.trunc),
          CreatedSince: ago(created, terminal.now()),
          CreatedAt: created,
          CreatedBy:
            flags.trunc && by.length > createdByMax ? `${by.slice(0, createdByMax - 1)}…` : by,
          Size: humanSize(step.Size),
          Comment: step.Comment,
        };
      });
      terminal.print(
        list(rows, historyListing, {
          format: flags.format,
          quiet: flags.quiet === true ? "ID" : undefined,
        }),
      );
    });
}

function addPrune(group: DockerCommand, open: Open): void {
  group
    .command("prune")
    .description("Remove unused images")
    .option("-a, --all", "Remove all unused images, not just dangling ones")
    .option("--filter <filter>", "Provide filter values", collect)
    .option("-f, --force", "Do not prompt for confirmation")
    .action(async (flags: { all?: boolean; filter?: readonly string[]; force?: boolean }) => {
      const terminal = open();
      await confirmed(
        terminal,
        flags.force === true,
        `This will remove all ${flags.all === true ? "images without at least one container associated to them" : "dangling images"}.`,
      );
      const wanted = [...(flags.filter ?? []), ...(flags.all === true ? ["dangling=false"] : [])];
      const pruned = await terminal.client.post<{
        ImagesDeleted?: readonly { Untagged?: string; Deleted?: string }[] | null;
        SpaceReclaimed: number;
      }>("/images/prune", { query: { filters: filters(wanted) } });
      const lines = (pruned.ImagesDeleted ?? []).map(({ Untagged, Deleted }) =>
        Untagged === undefined ? `deleted: ${Deleted}` : `untagged: ${Untagged}`,
      );
      sayPruned(terminal, "Images", lines, pruned.SpaceReclaimed);
    });
}
