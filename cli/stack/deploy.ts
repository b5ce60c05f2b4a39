// `stack deploy`, `diff` and `config`: the shell around the pure rest.

import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { ExitCode } from "../command.ts";
import { type PinnedImage, pinnedImage } from "../pin-image.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../values.ts";
import { applySteps } from "./apply.ts";
import { type Loaded, loadFiles } from "./load.ts";
import { look } from "./look.ts";
import { stackNameProblem } from "./names.ts";
import { imagesAsked, type PlanOptions, planOf } from "./plan.ts";
import { withProfiles } from "./profiles.ts";
import { waitFor } from "./progress.ts";
import { type Project, parseProject } from "./project.ts";
import { changesNothing, fileText, planText } from "./say.ts";
import type { Had, Plan, Step } from "./steps.ts";
import { StackError } from "./tree.ts";
import { unsupported } from "./unsupported.ts";
import { type Wanted, wantedOf } from "./wanted.ts";

export interface FileFlags {
  readonly composeFile?: readonly string[];
  readonly envFile?: readonly string[];
  readonly profile?: readonly string[];
}

export interface DeployFlags extends FileFlags {
  readonly detach: boolean;
  readonly prune?: boolean;
  readonly quiet?: boolean;
  readonly resolveImage: PlanOptions["resolveImage"];
  readonly withRegistryAuth?: boolean;
  /** Nanoseconds. */
  readonly waitTimeout: number;
}

const textBytesMax = 4 * 1024 * 1024;
const usualNames = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
const usualOverrides = [
  "compose.override.yaml",
  "compose.override.yml",
  "docker-compose.override.yaml",
  "docker-compose.override.yml",
];

/** Those named, else those of COMPOSE_FILE, else the usual ones in this folder. */
function composeFiles(terminal: Terminal, flags: FileFlags): readonly string[] {
  const named = (flags.composeFile ?? []).flatMap((each) => each.split(","));
  if (named.length > 0) return named;
  const told = terminal.environment["COMPOSE_FILE"] ?? "";
  if (told !== "") return told.split(terminal.environment["COMPOSE_PATH_SEPARATOR"] ?? ":");
  const usual = usualNames.find((name) => existsSync(name));
  if (usual === undefined) throw new UsageError("Specify a Compose file (with --compose-file)");
  const override = usualOverrides.find((name) => existsSync(name));
  return override === undefined ? [usual] : [usual, override];
}

function readBytes(path: string): Buffer | undefined {
  try {
    return readFileSync(path === "-" ? 0 : path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    throw new StackError(
      `${path}: ${code === "EISDIR" ? "is a folder" : (error as Error).message}`,
    );
  }
}

function readText(path: string): string | undefined {
  const bytes = readBytes(path);
  if (bytes !== undefined && bytes.length > textBytesMax)
    throw new StackError(`${path} is larger than ${textBytesMax} bytes`);
  return bytes?.toString("utf8");
}

export function loadStack(
  terminal: Terminal,
  stack: string,
  flags: FileFlags & { readonly skipInterpolation?: boolean },
): Loaded {
  const loaded = loadFiles({
    files: composeFiles(terminal, flags),
    directory: process.cwd(),
    environment: terminal.environment,
    envFiles: (flags.envFile ?? []).map((each) => resolve(each)),
    stack,
    isInterpolated: flags.skipInterpolation !== true,
    read: readText,
  });
  for (const variable of loaded.unset)
    terminal.warn(`The "${variable}" variable is not set. Defaulting to a blank string.\n`);
  return loaded;
}

function askedProfiles(terminal: Terminal, flags: FileFlags): readonly string[] {
  const told = (terminal.environment["COMPOSE_PROFILES"] ?? "").split(",");
  return [...(flags.profile ?? []), ...told].filter((each) => each !== "");
}

/** `stack config`. What is wrong with the file is said as a deploy would. */
export function printConfig(
  terminal: Terminal,
  flags: FileFlags & { readonly skipInterpolation?: boolean },
): void {
  const { file } = loadStack(terminal, "stack", flags);
  if (flags.skipInterpolation !== true) withProfiles(parseProject(file), ["*"]);
  terminal.print(fileText(file));
}

function wantedFrom(terminal: Terminal, stack: string, flags: FileFlags): Wanted {
  const problem = stackNameProblem(stack);
  if (problem !== null) throw new UsageError(problem);
  const loaded = loadStack(terminal, stack, flags);
  const project: Project = withProfiles(parseProject(loaded.file), askedProfiles(terminal, flags));
  for (const sentence of unsupported(project)) terminal.warn(`WARNING: ${sentence}\n`);
  const { lookup } = loaded;
  const wanted = wantedOf(stack, project, {
    read: readBytes,
    directory: process.cwd(),
    lookup,
  });
  for (const note of wanted.notes) terminal.warn(`NOTE: ${note}\n`);
  return wanted;
}

async function imagesOf(
  terminal: Terminal,
  wanted: Wanted,
  had: Had,
  resolveImage: PlanOptions["resolveImage"],
): Promise<ReadonlyMap<string, PinnedImage>> {
  const images = new Map<string, PinnedImage>();
  for (const image of imagesAsked(wanted, had, resolveImage)) {
    const pinned = await pinnedImage(terminal, image);
    if (pinned !== undefined) images.set(image, pinned);
  }
  return images;
}

/** Ends with code 1 when a deploy would change anything, as diff does. */
export async function showDiff(
  terminal: Terminal,
  stack: string,
  flags: FileFlags & Pick<DeployFlags, "prune" | "resolveImage">,
  signal: AbortSignal,
): Promise<void> {
  const wanted = wantedFrom(terminal, stack, flags);
  const had = await look(terminal.client, stack, wanted, signal);
  const images = await imagesOf(terminal, wanted, had, flags.resolveImage);
  const plan = planOf(wanted, had, optionsOf(flags, images));
  say(terminal, plan.notes);
  terminal.print(planText(plan));
  if (!changesNothing(plan)) throw new ExitCode(1);
}

function optionsOf(
  flags: Pick<DeployFlags, "prune" | "resolveImage">,
  images: PlanOptions["images"],
): PlanOptions {
  return { prune: flags.prune === true, resolveImage: flags.resolveImage, images };
}

function say(terminal: Terminal, notes: readonly string[]): void {
  for (const note of notes) terminal.warn(`WARNING: ${note}\n`);
}

export async function deploy(
  terminal: Terminal,
  stack: string,
  flags: DeployFlags,
  signal: AbortSignal,
): Promise<void> {
  const wanted = wantedFrom(terminal, stack, flags);
  const had = await look(terminal.client, stack, wanted, signal);
  const images = await imagesOf(terminal, wanted, had, flags.resolveImage);
  const options = optionsOf(flags, images);
  const waitMsMax = flags.waitTimeout / 1e6;
  const applying = {
    waitMsMax,
    isQuiet: flags.quiet === true,
    withRegistryAuth: flags.withRegistryAuth === true,
    signal,
  };
  const first = planOf(wanted, had, options);
  say(terminal, first.notes);
  await applySteps(terminal, first.before, applying);
  // A rotation has moved services meanwhile, and what is new has an id now.
  const plan: Plan =
    first.before.length === 0
      ? first
      : planOf(wanted, await look(terminal.client, stack, wanted, signal), options);
  await applySteps(terminal, plan.services, applying);
  await applySteps(terminal, plan.after, applying);
  if (!flags.detach) await converged(terminal, plan.services, waitMsMax, flags, signal);
}

/** Until every service that was written runs as wanted, and every job has completed. */
async function converged(
  terminal: Terminal,
  steps: readonly Step[],
  msMax: number,
  flags: DeployFlags,
  signal: AbortSignal,
): Promise<void> {
  const written = steps.filter(
    (step) => step.do === "create-service" || step.do === "update-service",
  );
  const print = flags.quiet === true ? () => {} : terminal.print;
  const condition = "service_started";
  const waiting = written.map(async ({ do: done, name }) => {
    const isWritten = done === "update-service";
    const onChange = (said: string) => print(`${name}: ${said}\n`);
    await waitFor(
      terminal.client,
      name,
      { condition, isWritten, msMax, now: terminal.now, onChange },
      signal,
    );
    print(`Service ${name} converged\n`);
  });
  const failed = (await Promise.allSettled(waiting)).flatMap((each) =>
    each.status === "rejected" ? [each.reason as Error] : [],
  );
  if (signal.aborted) return;
  for (const error of failed) terminal.warn(`${error.message}\n`);
  if (failed.length > 0) throw new ExitCode(1);
}
