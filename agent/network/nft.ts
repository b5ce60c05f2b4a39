// nftables in process: libnftables through koffi, run inside the namespace meant. A text is one transaction.

import { close, closeSync, openSync } from "node:fs";
import koffi from "koffi";
import { messageOf, SwarmError } from "../../proto/kit/errors.ts";
import { inNamespace } from "../../proto/kit/netns.ts";
import { libc } from "./libc.ts";

const SOL_SOCKET = 1;
const SO_PROTOCOL = 38;
const SO_DOMAIN = 39;
const AF_NETLINK = 16;
const NETLINK_NETFILTER = 12;
const interruptionsMax = 5;
/** NFT_CTX_OUTPUT_HANDLE */
const outputHandles = 1 << 3;

interface Calls {
  create(flags: number): unknown;
  free(context: unknown): void;
  bufferOutput(context: unknown): number;
  bufferErrors(context: unknown): number;
  setOutput(context: unknown, flags: number): void;
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
      setOutput: library.func("void nft_ctx_output_set_flags(void *context, uint32_t flags)"),
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
 * throws with nft's own words. Returns what the commands print; `handles`: with each rule's number.
 */
export function runNft(
  namespace: string | null,
  text: string,
  { handles }: { readonly handles: boolean } = { handles: false },
): string {
  const nft = calls();
  const attempt = () => {
    // A context keeps its socket, hence its namespace, open: it lives for one call only.
    const next = nextDescriptor();
    const context = nft.create(0);
    closeLater(next);
    try {
      nft.bufferOutput(context);
      nft.bufferErrors(context);
      if (handles) nft.setOutput(context, outputHandles);
      const result = nft.run(context, text);
      if (result === 0) return nft.output(context) ?? "";
      const why = (nft.errors(context) ?? "").trim().split("\n").slice(0, 4).join(" ");
      throw new SwarmError("internal", `nftables in ${namespace ?? "the host"}: ${why}`);
    } finally {
      nft.free(context);
    }
  };
  const work = () => (namespace === null ? attempt() : inNamespace(namespace, attempt));
  for (let left = interruptionsMax; ; left--) {
    try {
      return work();
    } catch (error) {
      // A signal came to this thread while the kernel waited: nothing has happened.
      if (left === 0 || !/Interrupted system call/.test(messageOf(error))) throw error;
    }
  }
}

/**
 * Closing the library's socket waits, in the kernel, until no packet can meet the rules it took away: some 10 ms. So we
 * hold a second descriptor of it, and close that one on a thread of the pool.
 */
function closeLater(socket: number): void {
  // Where another thread took the number, the library's socket is simply closed by the library.
  if (!isNetfilterSocket(socket)) return;
  const second = libc().duplicate(socket);
  if (second >= 0) setImmediate(() => close(second, () => {}));
}

/** The number the next open file will most likely have: the lowest that is free. */
function nextDescriptor(): number {
  const probe = openSync("/dev/null", "r");
  closeSync(probe);
  return probe;
}

function isNetfilterSocket(fd: number): boolean {
  const option = (name: number) => {
    const value = Buffer.alloc(4);
    const size = Uint8Array.of(4, 0, 0, 0);
    return libc().getsockopt(fd, SOL_SOCKET, name, value, size) === 0 ? value.readInt32LE() : -1;
  };
  return option(SO_DOMAIN) === AF_NETLINK && option(SO_PROTOCOL) === NETLINK_NETFILTER;
}
