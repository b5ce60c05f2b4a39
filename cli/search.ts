// `tsswarm search`: what images a registry has, asked of the daemon.

import type { DockerCommand } from "./command.ts";
import { authHeaders } from "./credentials.ts";
import { type Listing, list, type Row } from "./table.ts";
import type { Terminal } from "./terminal.ts";
import { collect, count, filters } from "./values.ts";

interface Found {
  readonly name: string;
  readonly description?: string;
  readonly star_count?: number;
  readonly is_official?: boolean;
  readonly is_automated?: boolean;
}

interface SearchFlags {
  readonly filter?: readonly string[];
  readonly format?: string;
  readonly limit?: number;
  readonly trunc: boolean;
}

const descriptionMax = 45;

const foundListing: Listing = {
  headings: {
    ...{ Name: "NAME", Description: "DESCRIPTION", StarCount: "STARS" },
    ...{ IsOfficial: "OFFICIAL", IsAutomated: "AUTOMATED" },
  },
  columns: ["{{.Name}}", "{{.Description}}", "{{.StarCount}}", "{{.IsOfficial}}"],
};

export function addSearchCommand(program: DockerCommand, open: () => Terminal): void {
  program
    .command("search")
    .description("Search a registry for images")
    .usage("[OPTIONS] TERM")
    .argument("<term>")
    .option("-f, --filter <filter>", "Filter output based on conditions provided", collect)
    .option("--format <string>", "table, table TEMPLATE, json, or a Go template")
    .option("--limit <int>", "Max number of search results", count)
    .option("--no-trunc", "Don't truncate output")
    .action(async (term: string, flags: SearchFlags) => {
      const terminal = open();
      const found = await terminal.client.get<readonly Found[]>("/images/search", {
        query: {
          term,
          filters: filters(flags.filter),
          ...(flags.limit ? { limit: flags.limit } : {}),
        },
        headers: await authHeaders(terminal.configFolder, term),
      });
      terminal.print(list(foundRows(found, flags), foundListing, { format: flags.format }));
    });
}

/** The most liked first. JSON has words where the table has marks. */
export function foundRows(
  found: readonly Found[],
  { trunc, format }: Pick<SearchFlags, "trunc" | "format">,
): readonly Row[] {
  const shown = (is: boolean | undefined) =>
    format === "json" ? String(is === true) : is === true ? "[OK]" : "";
  return found
    .toSorted((a, b) => (b.star_count ?? 0) - (a.star_count ?? 0))
    .map((each) => ({
      Name: each.name,
      Description: described(each.description ?? "", trunc),
      StarCount: String(each.star_count ?? 0),
      IsOfficial: shown(each.is_official),
      IsAutomated: shown(each.is_automated),
    }));
}

function described(text: string, isCut: boolean): string {
  const characters = [...text.replace(/[\r\n]/g, " ")];
  if (!isCut || characters.length <= descriptionMax) return characters.join("");
  return `${characters.slice(0, descriptionMax - 1).join("")}…`;
}
