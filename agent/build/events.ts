// What a build tells while it goes on, one step at a time, and the same as the lines of Docker's first builder. Pure.

import type { Progress } from "../engine/image-types.ts";
import type { StageText } from "./types.ts";

export type ProgressLine = Parameters<Progress>[0];

/** Where a step stands among those of its stage that make files. */
export interface Place {
  /** "": the Dockerfile's only stage, without a name. */
  readonly stage: string;
  /** From 1; 0 for what an image's ONBUILD adds. */
  readonly number: number;
  readonly total: number;
}

export type BuildEvent =
  /** `number` of `total`: among all instructions. `place`: null where only the image's configuration changes. */
  | {
      readonly tell: "step";
      readonly shown: string;
      readonly number: number;
      readonly total: number;
      readonly place: Place | null;
    }
  /** The step was done before. */
  | { readonly tell: "cached" }
  | { readonly tell: "running"; readonly container: string }
  /** Standard output and error of a command. */
  | { readonly tell: "output"; readonly stream: 1 | 2; readonly text: string }
  | { readonly tell: "removed"; readonly container: string }
  /** What the step has come to; "" for scratch. */
  | { readonly tell: "image"; readonly id: string }
  | { readonly tell: "pull"; readonly line: ProgressLine }
  | { readonly tell: "note"; readonly text: string }
  | { readonly tell: "built"; readonly id: string; readonly names: readonly string[] };

export type TellBuild = (event: BuildEvent) => void;

const shortLength = 12;
const makesFiles = ["RUN", "COPY", "ADD", "WORKDIR"];

export function linesOf(event: BuildEvent): readonly ProgressLine[] {
  switch (event.tell) {
    case "step":
      return said(`Step ${event.number}/${event.total} : ${event.shown}`);
    case "cached":
      return said(" ---> Using cache");
    case "running":
      return said(` ---> Running in ${event.container.slice(0, shortLength)}`);
    case "output":
      // As Docker shows what a step writes to its standard error.
      return [{ stream: event.stream === 1 ? event.text : `\x1b[91m${event.text}\x1b[0m` }];
    case "removed":
      return said(` ---> Removed intermediate container ${event.container.slice(0, shortLength)}`);
    case "image":
      return said(event.id === "" ? " --->" : ` ---> ${short(event.id)}`);
    case "pull":
      return [event.line];
    case "note":
      return said(event.text);
    case "built": {
      const tagged = event.names.flatMap((name) => said(`Successfully tagged ${name}`));
      return [
        { aux: { ID: event.id } },
        ...said(`Successfully built ${short(event.id)}`),
        ...tagged,
      ];
    }
    default:
      return event satisfies never;
  }
}

function said(text: string): readonly ProgressLine[] {
  return [{ stream: `${text}\n` }];
}

function short(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, shortLength);
}

/** Gives a stage's steps their numbers as they come; `isOnImage`: it begins with an image, not a stage or scratch. */
export function placesIn(
  stages: readonly StageText[],
  at: number,
  isOnImage: boolean,
): (keyword: string, isTrigger: boolean) => Place | null {
  const { name = "", instructions = [] } = stages[at] ?? {};
  const stage = name === "" && stages.length > 1 ? `stage-${at}` : name;
  const made = instructions.filter(({ keyword }) => makesFiles.includes(keyword)).length;
  const total = made + (isOnImage ? 1 : 0);
  let number = 0;
  return (keyword, isTrigger) => {
    if (keyword === "FROM" ? !isOnImage : !makesFiles.includes(keyword)) return null;
    return { stage, number: isTrigger ? 0 : ++number, total };
  };
}
