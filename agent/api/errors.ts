// What went wrong, as Docker's clients expect to hear it: an HTTP status and one sentence.

import { asSwarmError, type ErrorCode, SwarmError } from "../../proto/kit/errors.ts";

/** An error whose status differs from what its code gives elsewhere. */
export class StatusError extends SwarmError {
  readonly status: number;

  constructor(status: number, code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
    this.status = status;
  }
}

const statusOfCode: Readonly<Record<ErrorCode, number>> = {
  invalid: 400,
  not_found: 404,
  conflict: 409,
  precondition: 400,
  unauthenticated: 401,
  denied: 403,
  not_manager: 503,
  no_leader: 503,
  unavailable: 503,
  unknown_outcome: 500,
  too_large: 413,
  exhausted: 503,
  cancelled: 500,
  unsupported: 501,
  internal: 500,
};

const noLeader =
  "The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online. If the others are lost for good, `tsswarm swarm init --force-new-cluster` on this node makes it the only manager, with everything it knows.";

/** Never throws, whatever was thrown at us (fastify's own errors carry `statusCode`). */
export function toAnswer(error: unknown): { readonly status: number; readonly message: string } {
  if (error instanceof StatusError) return { status: error.status, message: error.message };
  if (error instanceof SwarmError) {
    const message = error.code === "no_leader" ? noLeader : error.message;
    return { status: statusOfCode[error.code], message };
  }
  const status =
    error instanceof Error && "statusCode" in error && typeof error.statusCode === "number"
      ? error.statusCode
      : 500;
  return { status, message: asSwarmError(error).message };
}

/** Runs `call`; an error of one of these codes is answered with this family's own status instead. */
export async function withStatus<T>(
  statuses: Readonly<Partial<Record<ErrorCode, number>>>,
  call: () => Promise<T>,
): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const ours = asSwarmError(error);
    const status = statuses[ours.code];
    if (status === undefined) throw error;
    throw new StatusError(status, ours.code, ours.message, { cause: error });
  }
}

/** Docker has it, we do not yet. */
export function notYet(what: string): SwarmError {
  return new SwarmError("unsupported", `${what} is not available in this version of tsswarm`);
}
