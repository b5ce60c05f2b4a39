// nftables in process: libnftables through koffi, run inside the namespace meant. A text is one transaction.

import koffi from "koffi";
import { SwarmError } from "../../proto/kit/errors.ts";
import { inNamespace } from "../../proto/kit/netns.ts";

interface Calls {
  create(flags: number): unknown;
  free(context: unknown): void;
  bufferOutput(context: unknown): number;
  bufferErrors(context: unknown): number;
  run(context: unknown, text: string): number;
  output(context: unknown): string | null;
  errors(context: unknown): string | null;
}

const loaded: { calls?: Calls } = {};

/** Throws `unsupported` when the library is not installed. */
function calls(): Calls {
  if (loaded.calls !== undefined) return loaded.calls;
  try {
    const library = koffi.load("libnftables.so.1");
    loaded.calls = {
      create: library.func("void *nft_ctx_new(uint32_t flags)"),
      free: library.func("void nft_ctx_free(void *context)"),
      bufferOutput: library.func("int nft_ctx_buffer_output(void *context)"),
      bufferErrors: library.func("int nft_ctx_buffer_error(void *context)"),
      run: library.func("int nft_run_cmd_from_buffer(void *context, str text)"),
      output: library.func("str nft_ctx_get_output_buffer(void *context)"),
      errors: library.func("str nft_ctx_get_error_buffer(void *context)"),
    };
  } catch (cause) {
    const message = "the library libnftables.so.1 is missing: install the package nftables";
    throw new SwarmError("unsupported", message, { cause });
  }
  return loaded.calls;
}

/**
 * Runs the commands in the namespace (null: the thread's own) as one transaction: all of it happens, or none and it
 * throws with nft's own words. Returns what the commands print.
 */
export function runNft(namespace: string | null, text: string): string {
  const nft = calls();
  const work = () => {
    // A context keeps its socket, hence its namespace, open: it lives for one call only.
    const context = nft.create(0);
    try {
      nft.bufferOutput(context);
      nft.bufferErrors(context);
      const result = nft.run(context, text);
      if (result === 0) return nft.output(context) ?? "";
      const why = (nft.errors(context) ?? "").trim().split("\n").slice(0, 4).join(" ");
      throw new SwarmError("internal", `nftables in ${namespace ?? "the host"}: ${why}`);
    } finally {
      nft.free(context);
    }
  };
  return namespace === null ? work() : inNamespace(namespace, work);
}
