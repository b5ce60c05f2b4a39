// containerd's messages to the runtime's words and back.

import type { Messages } from "../../proto/gen/containerd-types.ts";
import { asSwarmError, type SwarmError } from "../../proto/kit/errors.ts";
import { codecOfMessage } from "./calls.ts";
import type { OciRuntime } from "./oci-runtimes.ts";
import type { Descriptor, ImageRecord, Process } from "./types.ts";

const runcOptions = codecOfMessage("containerd.runc.v1.Options");
const oomEvent = codecOfMessage("containerd.events.TaskOOM");
export const oomTopic = "/tasks/oom";

/** The container of which the kernel has killed a process for want of memory. */
export function oomOf(envelope: Messages["containerd.services.events.v1.Envelope"]): string {
  return oomEvent.decode(envelope.event?.value ?? new Uint8Array()).container_id;
}

/** For `catch`: one expected code counts as no answer. */
export function ignore(code: SwarmError["code"]): (error: unknown) => undefined {
  return (error) => {
    if (asSwarmError(error).code !== code) throw error;
    return undefined;
  };
}

export function anyOf(type: string, body: unknown): { type_url: string; value: Uint8Array } {
  return { type_url: type, value: Buffer.from(JSON.stringify(body)) };
}

/** A container's runtime as containerd keeps it. */
export function runtimeTo({ shim, path }: OciRuntime) {
  if (path === "") return { name: shim };
  const options = {
    type_url: "containerd.runc.v1.Options",
    value: runcOptions.encode({ binary_name: path }),
  };
  return { name: shim, options };
}

export function descriptorTo(descriptor: Descriptor) {
  return {
    media_type: descriptor.mediaType,
    digest: descriptor.digest,
    size: descriptor.size,
    annotations: descriptor.annotations,
  };
}

export function imageOf(image: Messages["containerd.services.images.v1.Image"]): ImageRecord {
  return {
    name: image.name,
    labels: image.labels,
    updatedAt: timeOf(image.updated_at),
    target: {
      mediaType: image.target?.media_type ?? "",
      digest: image.target?.digest ?? "",
      size: image.target?.size ?? 0,
    },
  };
}

export function processOf(process: Messages["containerd.v1.types.Process"]): Process {
  const status = process.status.toLowerCase();
  return {
    id: process.container_id === "" ? process.id : process.container_id,
    pid: process.pid,
    status: status === "pausing" ? "paused" : (status as Process["status"]),
    exitCode: process.exit_status,
    exitedAt: timeOf(process.exited_at),
  };
}

/** RFC 3339 with nanoseconds; Go's zero time is "". */
export function timeOf(time: Messages["google.protobuf.Timestamp"] | undefined): string {
  if (time === undefined || time.seconds <= 0) return "";
  const whole = new Date(time.seconds * 1000).toISOString().slice(0, 19);
  return `${whole}.${String(time.nanos).padStart(9, "0")}Z`;
}
