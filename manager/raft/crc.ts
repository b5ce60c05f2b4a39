// CRC-32 (IEEE), by zlib where Node has it (20.15 and later), else by table.

import * as zlib from "node:zlib";

const table = new Uint32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The checksum of what `seed` is the checksum of, followed by `bytes`. */
export const crc32: (bytes: Uint8Array, seed: number) => number =
  typeof zlib.crc32 === "function" ? (bytes, seed) => zlib.crc32(bytes, seed) : crc32ByTable;

export function crc32ByTable(bytes: Uint8Array, seed: number): number {
  let value = ~seed;
  for (const byte of bytes) value = (value >>> 8) ^ (table[(value ^ byte) & 0xff] ?? 0);
  return ~value >>> 0;
}
