// An external CA: requests are sent to it over HTTPS in cfssl's words, and what it signs is checked before it is used.

import { type RequestOptions, request } from "node:https";
import { rootCertificates } from "node:tls";
import { z } from "zod";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import type { Identity } from "../../proto/tls.ts";

const callMsMax = 5_000;
const answerBytesMax = 256 * 1024;

const answerShape = z.object({
  success: z.boolean(),
  result: z.object({ certificate: z.string() }).nullish(),
  errors: z.array(z.object({ message: z.string() })).nullish(),
});

/** cfssl's signer.SignRequest. */
export interface SignRequest {
  readonly certificate_request: string;
  readonly hosts: readonly string[];
  readonly subject: {
    readonly CN: string;
    readonly names: readonly { readonly OU: string; readonly O: string }[];
  };
  readonly profile?: string;
}

/**
 * The certificate (PEM) that the first of these CAs gives. Each is told who we are by our node's certificate, and has to show one of
 * a cluster's root or of a public CA. Throws `unavailable` with what each of them said.
 */
export async function askExternal(
  urls: readonly string[],
  asked: SignRequest,
  own: Identity,
  roots: readonly string[],
  signal: AbortSignal,
): Promise<string> {
  const failures: string[] = [];
  for (const url of urls) {
    try {
      return await ask(url, asked, own, roots, signal);
    } catch (error) {
      signal.throwIfAborted();
      failures.push(`${url}: ${messageOf(error)}`);
    }
  }
  throw new SwarmError(
    "unavailable",
    `no external CA has signed the certificate (${failures.join("; ")})`,
  );
}

async function ask(
  url: string,
  asked: SignRequest,
  own: Identity,
  roots: readonly string[],
  signal: AbortSignal,
): Promise<string> {
  const text = await post(url, JSON.stringify(asked), {
    cert: own.certificate,
    key: own.key,
    ca: [...roots, ...rootCertificates],
    minVersion: "TLSv1.2",
    signal: AbortSignal.any([signal, AbortSignal.timeout(callMsMax)]),
  });
  const answer = answerShape.safeParse(parse(text));
  if (!answer.success) throw new Error("it answered something else than cfssl's API");
  const { success, result, errors } = answer.data;
  if (success && result?.certificate !== undefined) return result.certificate;
  throw new Error(errors?.map(({ message }) => message).join(", ") || "it refused");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function post(url: string, body: string, options: RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
    };
    const call = request(url, { ...options, method: "POST", headers }, (response) => {
      const parts: Buffer[] = [];
      let size = 0;
      response.on("data", (part: Buffer) => {
        parts.push(part);
        size += part.length;
        if (size > answerBytesMax) response.destroy(new Error("its answer is too long"));
      });
      response.once("error", reject);
      response.once("end", () => resolve(Buffer.concat(parts).toString()));
    });
    call.once("error", reject);
    call.end(body);
  });
}
