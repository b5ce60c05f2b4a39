// Log answers: lines of containers and of services, framed as Docker's clients read them.

import type { FastifyReply, FastifyRequest } from "fastify";
import type { LogLine, ServiceLogsRequest } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import { realWorld, timestamp } from "../../proto/kit/world.ts";
import { checkReadable } from "../engine/log-limits.ts";
import type { LogQuery } from "../engine/stream-types.ts";
import { controlOf } from "./control.ts";
import { Query } from "./request.ts";
import { serviceLogs } from "./service-logs.ts";
import { frame, multiplexedStream, outflow, rawStream } from "./stream.ts";
import type { ApiContext } from "./types.ts";

/** Reasons that are told at the end of an answer that lacks something. */
const missingMax = 10;

interface LogOptions extends LogQuery {
  readonly timestamps: boolean;
  readonly details: boolean;
}

function logOptions(request: FastifyRequest): LogOptions {
  const query = new Query(request);
  const [stdout, stderr] = [query.flag("stdout"), query.flag("stderr")];
  if (!stdout && !stderr)
    throw new SwarmError("invalid", "Bad parameters: you must choose at least one stream");
  const [since, until] = [query.time("since"), query.time("until")];
  return {
    stdout,
    stderr,
    follow: query.flag("follow"),
    tail: tailOf(query.text("tail")),
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
    timestamps: query.flag("timestamps"),
    details: query.flag("details"),
  };
}

/** Of a container anything but a number of lines means all of them, as in Docker. */
function tailOf(text: string): number {
  return /^\d{1,9}$/.test(text) ? Number(text) : -1;
}

/** Of a service it is refused, as in Docker. */
function checkServiceTail(text: string): void {
  if (text === "" || text === "all" || tailOf(text) >= 0) return;
  const why = /^-\d+$/.test(text)
    ? "negative tail values not supported"
    : 'tail value must be a positive integer or "all"';
  throw new SwarmError("invalid", why);
}

export async function streamContainerLogs(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  id: string,
): Promise<void> {
  const options = logOptions(request);
  const container = context.engine.inspect(id);
  checkReadable(container.host);
  const tty = container.config.Tty === true;
  await answerLogs(reply, tty, async (write, gone) => {
    for await (const records of context.engine.logs(container.id, options, gone))
      await write(
        records.map(({ stream, time, data, attributes }) => {
          const head = options.timestamps ? `${time} ` : "";
          const details = options.details ? `${detailsOf(attributes)} ` : "";
          return { stream, head: `${head}${details}`, data };
        }),
      );
  });
}

/** As Docker shows them: in order, and nothing in them that would end them. */
function detailsOf(attributes: Readonly<Record<string, string>> = {}): string {
  const escaped = (text: string) => encodeURIComponent(text).replaceAll("%20", "+");
  return Object.entries(attributes)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${escaped(key)}=${escaped(value)}`)
    .join(",");
}

/** Lines of one service or task from all nodes that run it. */
export async function streamServiceLogs(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  of: { readonly ServiceID?: string; readonly TaskID?: string; readonly tty: boolean },
): Promise<void> {
  checkServiceTail(new Query(request).text("tail"));
  const options = logOptions(request);
  const control = controlOf(context);
  const asked = {
    ServiceID: of.ServiceID ?? "",
    TaskID: of.TaskID ?? "",
    Follow: options.follow,
    Tail: options.tail,
    Since: options.since === undefined ? "" : timestamp(options.since),
    Until: options.until === undefined ? "" : timestamp(options.until),
    Stdout: options.stdout,
    Stderr: options.stderr,
  };
  const missing = new Set<string>();
  await answerLogs(reply, of.tty, async (write, gone) => {
    const download = (request: ServiceLogsRequest) =>
      control.download("ServiceLogs", request, { signal: gone });
    for await (const message of serviceLogs(download, asked, realWorld, gone)) {
      await write(
        message.Lines.map((line) => ({
          stream: line.Stream === "stderr" ? "stderr" : "stdout",
          head: headOf(line, options),
          data: Buffer.from(line.Data),
        })),
      );
      const { Err, NodeID, TaskID } = message;
      if (Err === "") continue;
      if (options.follow) {
        const about = {
          NodeID,
          TaskID,
          ServiceID: of.ServiceID ?? "",
          Time: timestamp(realWorld.now()),
        };
        const data = Buffer.from(`${Err}\n`);
        await write([{ stream: "stderr", head: headOf(about, options), data }]);
      } else if (missing.size < missingMax) missing.add(Err);
    }
    if (missing.size > 0)
      throw new SwarmError("unavailable", `not all lines could be had: ${[...missing].join("; ")}`);
  });
}

/** `details` tell the client which task a line is from. */
function headOf(
  line: Pick<LogLine, "NodeID" | "ServiceID" | "TaskID" | "Time">,
  options: LogOptions,
): string {
  const time = options.timestamps ? `${line.Time} ` : "";
  if (!options.details) return time;
  const of = [
    ["com.docker.swarm.node.id", line.NodeID],
    ["com.docker.swarm.service.id", line.ServiceID],
    ["com.docker.swarm.task.id", line.TaskID],
  ].map(([key, value]) => `${key}=${encodeURIComponent(value ?? "")}`);
  return `${time}${of.join(",")} `;
}

interface ShownLine {
  readonly stream: "stdout" | "stderr";
  readonly head: string;
  readonly data: Buffer;
}
type WriteLines = (lines: readonly ShownLine[]) => Promise<void>;

async function answerLogs(
  reply: FastifyReply,
  tty: boolean,
  body: (write: WriteLines, gone: AbortSignal) => Promise<void>,
): Promise<void> {
  await outflow(
    reply,
    tty ? rawStream : multiplexedStream,
    async (out) => {
      out.open();
      await body(async (lines) => {
        const shown = lines.map(({ stream, head, data }) => {
          const line = head === "" ? data : Buffer.concat([Buffer.from(head), data]);
          return tty ? line : frame(stream, line);
        });
        if (shown.length > 0) await out.write(Buffer.concat(shown));
      }, out.gone);
    },
    (message) => {
      const words = Buffer.from(`Error grabbing logs: ${message}\n`);
      return tty ? words : frame("failure", words);
    },
  );
}
