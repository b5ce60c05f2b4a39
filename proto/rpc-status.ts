// Our errors as gRPC statuses and back: our own codes travel in the trailers.

import grpc from "@grpc/grpc-js";
import { asSwarmError, type ErrorCode, SwarmError } from "./kit/errors.ts";

const codeKey = "tsswarm-code";

const statusOfCode: Readonly<Record<ErrorCode, grpc.status>> = {
  invalid: grpc.status.INVALID_ARGUMENT,
  not_found: grpc.status.NOT_FOUND,
  conflict: grpc.status.ALREADY_EXISTS,
  precondition: grpc.status.FAILED_PRECONDITION,
  unauthenticated: grpc.status.UNAUTHENTICATED,
  denied: grpc.status.PERMISSION_DENIED,
  not_manager: grpc.status.FAILED_PRECONDITION,
  no_leader: grpc.status.UNAVAILABLE,
  unavailable: grpc.status.UNAVAILABLE,
  unknown_outcome: grpc.status.UNKNOWN,
  too_large: grpc.status.OUT_OF_RANGE,
  exhausted: grpc.status.RESOURCE_EXHAUSTED,
  cancelled: grpc.status.CANCELLED,
  unsupported: grpc.status.UNIMPLEMENTED,
  internal: grpc.status.INTERNAL,
};

const codeOfStatus: Readonly<Partial<Record<grpc.status, ErrorCode>>> = {
  [grpc.status.INVALID_ARGUMENT]: "invalid",
  [grpc.status.NOT_FOUND]: "not_found",
  [grpc.status.ALREADY_EXISTS]: "conflict",
  [grpc.status.FAILED_PRECONDITION]: "precondition",
  [grpc.status.UNAUTHENTICATED]: "unauthenticated",
  [grpc.status.PERMISSION_DENIED]: "denied",
  [grpc.status.UNAVAILABLE]: "unavailable",
  [grpc.status.DEADLINE_EXCEEDED]: "unknown_outcome",
  [grpc.status.UNKNOWN]: "unknown_outcome",
  [grpc.status.OUT_OF_RANGE]: "too_large",
  [grpc.status.RESOURCE_EXHAUSTED]: "exhausted",
  [grpc.status.CANCELLED]: "cancelled",
  [grpc.status.UNIMPLEMENTED]: "unsupported",
};

export function toStatus(error: unknown): grpc.ServiceError {
  const ours = asSwarmError(error);
  const metadata = new grpc.Metadata();
  metadata.set(codeKey, ours.code);
  return Object.assign(new Error(ours.message), {
    code: statusOfCode[ours.code],
    details: ours.message,
    metadata,
  });
}

/** As a call fails on its way: for calls that have their own. */
export function failure(code: grpc.status, details: string, server = ""): SwarmError {
  const cause = Object.assign(new Error(details), { code, details, metadata: new grpc.Metadata() });
  return fromStatus(cause, server);
}

/** What is known of a call that failed: answered with an error of ours, never sent, or nobody knows. */
export function fateOf(error: SwarmError): "answered" | "unsent" | "unknown" {
  const failure = error.cause as Partial<grpc.ServiceError> | undefined;
  if (typeof failure?.code !== "number" || failure.metadata?.get(codeKey)[0] !== undefined)
    return "answered";
  const isUnsent =
    failure.code === grpc.status.UNAVAILABLE && /^No connection/.test(failure.details ?? "");
  return isUnsent ? "unsent" : "unknown";
}

/**
 * A grpc-js failure as a SwarmError; our own codes travel in the trailers. What has none comes from the way there: with a
 * `server` it is told in people's words.
 */
export function fromStatus(error: unknown, server = ""): SwarmError {
  if (error instanceof SwarmError) return error;
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "number")
    return asSwarmError(error);
  const failure = error as grpc.ServiceError;
  const named = failure.metadata?.get(codeKey)[0];
  if (typeof named === "string" && named in statusOfCode)
    return new SwarmError(named as ErrorCode, failure.details, { cause: error });
  const silence = server === "" ? null : silenceOf(failure, server);
  if (silence !== null) return new SwarmError(silence.code, silence.message, { cause: error });
  const code = codeOfStatus[failure.code] ?? "internal";
  return new SwarmError(code, failure.details || failure.message, { cause: error });
}

function silenceOf({ code, details }: grpc.ServiceError, server: string) {
  const mayBeDone = "may have done what was asked: look, and try again";
  if (code === grpc.status.DEADLINE_EXCEEDED)
    return {
      code: "unknown_outcome",
      message: `${server} took too long, and ${mayBeDone}`,
    } as const;
  // A server that stops cancels its calls; our own cancelling is called so.
  const isCutOff = code === grpc.status.CANCELLED && !details.includes("on client");
  if (isCutOff || (code === grpc.status.UNAVAILABLE && /dropped|closed|reset/i.test(details)))
    return { code: "unavailable", message: `${server} went away, and ${mayBeDone}` } as const;
  if (code !== grpc.status.UNAVAILABLE) return null;
  const message = `${server} does not answer; if it is just starting, it does in a moment: try again`;
  return { code: "unavailable", message } as const;
}
