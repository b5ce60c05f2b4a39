// The one error that crosses rooms and processes: a closed code for programs, a sentence for people.

/**
 * What kind of failure it is. `unknown_outcome`: the write may or may not have happened.
 * `precondition`: the object's state forbids it (in use, already in a swarm). `not_manager`: ask a manager.
 */
export type ErrorCode =
  | "invalid"
  | "not_found"
  | "conflict"
  | "precondition"
  | "unauthenticated"
  | "denied"
  | "not_manager"
  | "no_leader"
  | "unavailable"
  | "unknown_outcome"
  | "too_large"
  | "exhausted"
  | "cancelled"
  | "unsupported"
  | "internal";

export class SwarmError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "SwarmError";
    this.code = code;
  }

  /** Whether the same call may succeed later without any change by the caller. */
  get retryable(): boolean {
    return this.code === "no_leader" || this.code === "unavailable" || this.code === "exhausted";
  }
}

/** The error as a SwarmError; what is not one already is `internal` with the original as its cause. */
export function asSwarmError(error: unknown): SwarmError {
  if (error instanceof SwarmError) return error;
  return new SwarmError("internal", messageOf(error), { cause: error });
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `code` of a Node system error (ENOENT, ECONNREFUSED …), or "". */
export function errnoOf(error: unknown): string {
  if (typeof error !== "object" || error === null || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}
