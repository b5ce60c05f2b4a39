// `tsswarm pull` and `tsswarm images`.

import { jsonLines } from "./client.ts";
import type { DockerCommand } from "./command.ts";
import { authHeaders } from "./credentials.ts";
import { ago, humanSize, type Listing, list, type Row, shortId } from "./table.ts";
import type { Terminal } from "./terminal.ts";
import { collect, filters } from "./values.ts";

interface Image {
  readonly Id?: string;
  readonly RepoTags?: readonly string[] | null;
  readonly RepoDigests?: readonly string[] | null;
  /** Seconds since 1970. */
  readonly Created?: number;
  readonly Size?: number;
}

interface PullLine {
  readonly status?: string;
  readonly id?: string;
  readonly error?: string;
  readonly progress?: string;
}

export function addPull(parent: DockerCommand, open: () => Terminal): void {
  parent
    .command("pull")
    .description("Download an image from a registry")
    .usage("[OPTIONS] NAME[:TAG|@DIGEST]")
    .argument("<name>")
    .option("-q, --quiet", "Suppress verbose output")
    .action((name: string, flags: { quiet?: boolean }) => pull(open(), name, flags.quiet === true));
}

/** `images`, and `image ls`. */
export function addImages(parent: DockerCommand, name: string, open: () => Terminal): void {
  parent
    .command(name)
    .description("List images")
    .argument("[repository]")
    .option("-a, --all", "Show all images")
    .option("--digests", "Show digests")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("--no-trunc", "Don't truncate output")
    .option("-q, --quiet", "Only show image IDs")
    .action(async (repository: string | undefined, flags) => {
      const terminal = open();
      const given: readonly string[] = flags.filter ?? [];
      const wanted = repository === undefined ? given : [...given, `reference=${repository}`];
      const query = { all: flags.all === true, filters: filters(wanted) };
      const images = await terminal.client.get<readonly Image[]>("/images/json", { query });
      const rows = images.flatMap((image) => imageRows(image, !flags.trunc, terminal.now()));
      const format = flags.format ?? (flags.digests === true ? digestsFormat : undefined);
      terminal.print(
        list(rows, imageListing, { format, quiet: flags.quiet === true ? "ID" : undefined }),
      );
    });
}

/** name:tag@digest in its parts; without a tag or digest the tag is latest. */
export function parseReference(name: string): { readonly image: string; readonly tag: string } {
  const at = name.indexOf("@");
  if (at >= 0) return { image: name.slice(0, at).replace(/:[^/:]*$/, ""), tag: name.slice(at + 1) };
  const colon = /:([^/:]+)$/.exec(name);
  return colon === null
    ? { image: name, tag: "latest" }
    : { image: name.slice(0, colon.index), tag: colon[1] ?? "" };
}

export async function pull(terminal: Terminal, name: string, isQuiet: boolean): Promise<void> {
  const { image, tag } = parseReference(name);
  if (!name.includes("@") && !/:[^/]+$/.test(name) && !isQuiet)
    terminal.print(`Using default tag: ${tag}\n`);
  const response = await terminal.client.open("POST", "/images/create", {
    query: { fromImage: image, tag },
    headers: await authHeaders(terminal.configFolder, image),
  });
  const shown = new Map<string, string>();
  for await (const line of jsonLines(response) as AsyncIterable<PullLine>) {
    if (line.error !== undefined) throw new Error(`Error response from daemon: ${line.error}`);
    if (isQuiet) continue;
    // Without redrawing: each layer's stages, but not its every byte.
    const key = line.id ?? "";
    const text = `${line.id === undefined ? "" : `${line.id}: `}${line.status ?? ""}`;
    if (key !== "" && shown.get(key) === text) continue;
    shown.set(key, text);
    terminal.print(`${text}\n`);
  }
  const separator = tag.startsWith("sha256:") ? "@" : ":";
  terminal.print(`${canonical(image)}${separator}${tag}\n`);
}

/** With the registry that Docker means when none is named. */
function canonical(image: string): string {
  const [first = ""] = image.split("/");
  const isNamed =
    image.includes("/") && (first.includes(".") || first.includes(":") || first === "localhost");
  if (isNamed) return image;
  return image.includes("/") ? `docker.io/${image}` : `docker.io/library/${image}`;
}

export const imageListing: Listing = {
  headings: {
    Repository: "REPOSITORY",
    Tag: "TAG",
    Digest: "DIGEST",
    ID: "IMAGE ID",
    CreatedSince: "CREATED",
    CreatedAt: "CREATED AT",
    Size: "SIZE",
  },
  columns: ["{{.Repository}}", "{{.Tag}}", "{{.ID}}", "{{.CreatedSince}}", "{{.Size}}"],
};
const digestsFormat =
  "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/** One row for each name of the image; an image without a name has one too. */
export function imageRows(image: Image, isWhole: boolean, now: number): readonly Row[] {
  const created = new Date((image.Created ?? 0) * 1000).toISOString();
  const common = {
    ID: shortId(image.Id ?? "", isWhole),
    CreatedSince: ago(created, now),
    CreatedAt: created,
    Size: humanSize(image.Size ?? 0),
  };
  const digests = (image.RepoDigests ?? []).map((name) => name.split("@") as [string, string]);
  const tags = (image.RepoTags ?? []).filter((name) => name !== "<none>:<none>");
  if (tags.length > 0)
    return tags.map((name) => {
      const { image: Repository, tag: Tag } = parseReference(name);
      const Digest = digests.find(([repository]) => repository === Repository)?.[1] ?? "<none>";
      return { Repository, Tag, Digest, ...common };
    });
  const [Repository = "<none>", Digest = "<none>"] = digests[0] ?? [];
  return [{ Repository, Tag: "<none>", Digest, ...common }];
}
