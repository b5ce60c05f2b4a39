// `tsswarm system df`: what lies on a node's disk, and how much of it nothing uses.

import type { DockerCommand } from "./command.ts";
import { containerRow, type Summary } from "./container.ts";
import { ago, humanSize, type Listing, list, type Row, shortId } from "./table.ts";
import type { Terminal } from "./terminal.ts";

interface Collection {
  readonly Images: number;
  readonly Bytes: number;
  readonly DiskPercent: number;
  readonly HighPercent: number;
  readonly LowPercent: number;
}
interface Image {
  readonly Id: string;
  readonly RepoTags?: readonly string[] | null;
  readonly Created: number;
  readonly Size: number;
  readonly SharedSize: number;
  readonly Containers: number;
}
interface Volume {
  readonly Name: string;
  readonly UsageData?: { readonly Size: number; readonly RefCount: number };
}
export interface Usage {
  readonly Collection?: Collection;
  readonly LayersSize?: number;
  readonly Images?: readonly Image[] | null;
  readonly Containers?: readonly Summary[] | null;
  readonly Volumes?: readonly Volume[] | null;
}

const summary = listingOf(
  ["Type", "TYPE"],
  ["TotalCount", "TOTAL"],
  ["Active", "ACTIVE"],
  ["Size", "SIZE"],
  ["Reclaimable", "RECLAIMABLE"],
);
const images = listingOf(
  ["Repository", "REPOSITORY"],
  ["Tag", "TAG"],
  ["ID", "IMAGE ID"],
  ["CreatedSince", "CREATED"],
  ["Size", "SIZE"],
  ["SharedSize", "SHARED SIZE"],
  ["UniqueSize", "UNIQUE SIZE"],
  ["Containers", "CONTAINERS"],
);
const containers = listingOf(
  ["ID", "CONTAINER ID"],
  ["Image", "IMAGE"],
  ["Command", "COMMAND"],
  ["LocalVolumes", "LOCAL VOLUMES"],
  ["Size", "SIZE"],
  ["RunningFor", "CREATED"],
  ["Status", "STATUS"],
  ["Names", "NAMES"],
);
const volumes = listingOf(["Name", "VOLUME NAME"], ["Links", "LINKS"], ["Size", "SIZE"]);

function listingOf(...columns: readonly (readonly [string, string])[]): Listing {
  return {
    headings: Object.fromEntries(columns),
    columns: columns.map(([name]) => `{{.${name}}}`),
  };
}

export function addDiskUsage(group: DockerCommand, open: () => Terminal): void {
  group
    .command("df")
    .description("Show disk usage")
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("-v, --verbose", "Show detailed information on space usage")
    .action(async ({ format, verbose }: { format?: string; verbose?: boolean }) => {
      const terminal = open();
      const usage = await terminal.client.get<Usage>("/system/df");
      if (verbose === true) {
        terminal.print(details(usage, terminal.now()));
        return;
      }
      terminal.print(list(summaryRows(usage), summary, { format }));
      const { Collection } = usage;
      if (Collection !== undefined && format === undefined)
        terminal.print(`\n${collectionLine(Collection)}\n`);
    });
}

export function summaryRows(usage: Usage): readonly Row[] {
  const all = usage.Images ?? [];
  const layers = usage.LayersSize ?? 0;
  const usedImages = all.filter((image) => image.Containers > 0);
  const held = total(usedImages.map(({ Size, SharedSize }) => Size - Math.max(SharedSize, 0)));
  const made = usage.Containers ?? [];
  const ended = made.filter(
    ({ State = "" }) => !["running", "paused", "restarting"].includes(State),
  );
  const kept = usage.Volumes ?? [];
  const unused = kept.filter(({ UsageData }) => (UsageData?.RefCount ?? 0) === 0);
  const sizes = (some: readonly Summary[]) => total(some.map(({ SizeRw = 0 }) => SizeRw));
  const volumeSizes = (some: readonly Volume[]) =>
    total(some.map(({ UsageData }) => Math.max(UsageData?.Size ?? 0, 0)));
  return [
    row("Images", all.length, usedImages.length, layers, layers - held),
    row("Containers", made.length, made.length - ended.length, sizes(made), sizes(ended)),
    row(
      "Local Volumes",
      kept.length,
      kept.length - unused.length,
      ...both(volumeSizes, kept, unused),
    ),
    row("Build Cache", 0, 0, 0, 0),
  ];
}

function both<T>(sum: (some: readonly T[]) => number, all: readonly T[], free: readonly T[]) {
  return [sum(all), sum(free)] as const;
}

function row(Type: string, count: number, active: number, size: number, free: number): Row {
  const share = size > 0 ? ` (${Math.floor((free * 100) / size)}%)` : "";
  return {
    Type,
    TotalCount: String(count),
    Active: String(active),
    Size: humanSize(size, digits),
    Reclaimable: humanSize(free, digits) + share,
  };
}

const digits = 4;

function total(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + size, 0);
}

function details(usage: Usage, now: number): string {
  const parts: readonly (readonly [string, readonly Row[], Listing])[] = [
    ["Images", (usage.Images ?? []).map((image) => imageRow(image, now)), images],
    [
      "Containers",
      (usage.Containers ?? []).map((each) => ({
        ...containerRow(each, false, now),
        Size: humanSize(each.SizeRw ?? 0),
      })),
      containers,
    ],
    ["Local Volumes", (usage.Volumes ?? []).map(volumeRow), volumes],
  ];
  return parts
    .map(([what, rows, listing]) => `${what} space usage:\n\n${list(rows, listing, {})}`)
    .join("\n");
}

function imageRow(image: Image, now: number): Row {
  const name = image.RepoTags?.[0] ?? "<none>:<none>";
  const at = name.lastIndexOf(":");
  return {
    Repository: name.slice(0, at),
    Tag: name.slice(at + 1),
    ID: shortId(image.Id),
    CreatedSince: ago(new Date(image.Created * 1000).toISOString(), now),
    Size: humanSize(image.Size),
    SharedSize: humanSize(image.SharedSize, digits),
    UniqueSize: humanSize(image.Size - image.SharedSize, digits),
    Containers: String(image.Containers),
  };
}

function volumeRow({ Name, UsageData }: Volume): Row {
  const { RefCount = 0, Size = 0 } = UsageData ?? {};
  return { Name, Links: String(RefCount), Size: humanSize(Math.max(Size, 0), digits) };
}

/** Its own line: these go by themselves. */
function collectionLine(collection: Collection): string {
  const { Images, Bytes, DiskPercent, HighPercent, LowPercent } = collection;
  return `Unused images of tasks: ${Images} (${humanSize(Bytes)}). The disk is ${DiskPercent}% full; from ${HighPercent}% on they are removed until it is at ${LowPercent}%.`;
}
