// IP addresses of both families, as text and as bytes.

import { isIPv4, isIPv6 } from "node:net";
import ipaddr from "ipaddr.js";
import { SwarmError } from "./errors.ts";

export type Family = 4 | 6;

/** Of an address or a subnet that is known to be one. */
export function familyOf(text: string): Family {
  return text.includes(":") ? 6 : 4;
}

/** 4 or 16 bytes. Throws `invalid`. */
export function ipBytes(text: string): Buffer {
  if (isIPv4(text)) return Buffer.from(text.split(".").map(Number));
  if (isIPv6(text) && !text.includes("%")) return Buffer.from(ipaddr.parse(text).toByteArray());
  throw new SwarmError("invalid", `${text} is not an IP address`);
}

/** The one way to write it (RFC 5952). */
export function ipText(bytes: Uint8Array): string {
  return bytes.length === 4 ? bytes.join(".") : ipaddr.fromByteArray([...bytes]).toString();
}

/** For arithmetic within one family. Throws `invalid`. */
export function ipNumber(text: string): bigint {
  return BigInt(`0x${ipBytes(text).toString("hex")}`);
}

export function ipOfNumber(value: bigint, family: Family): string {
  const digits = value.toString(16).padStart(family === 4 ? 8 : 32, "0");
  return ipText(Buffer.from(digits, "hex"));
}

/** Throws `invalid`. The address is left as it is written, with host bits or without. */
export function parseCidr(text: string): { readonly address: string; readonly prefix: number } {
  const [address = "", length = "", ...rest] = text.split("/");
  const prefix = Number(length);
  const isAddress = isIPv4(address) || (isIPv6(address) && !address.includes("%"));
  const prefixMax = familyOf(address) === 4 ? 32 : 128;
  if (!isAddress || rest.length > 0 || !/^\d{1,3}$/.test(length) || prefix > prefixMax) {
    throw new SwarmError("invalid", `${text} is not a subnet such as 10.0.1.0/24 or fd00:1::/64`);
  }
  return { address, prefix };
}

/** Whether the address is in the subnet. Throws `invalid` when one of them is none. */
export function contains(cidr: string, address: string): boolean {
  const { address: base, prefix } = parseCidr(cidr);
  const [a, b] = [ipBytes(base), ipBytes(address)];
  if (a.length !== b.length) return false;
  const whole = prefix >> 3;
  if (a.compare(b, 0, whole, 0, whole) !== 0) return false;
  const mask = (0xff00 >> (prefix & 7)) & 0xff;
  return mask === 0 || ((a[whole] ?? 0) & mask) === ((b[whole] ?? 0) & mask);
}

/** By family, then by value. */
export function compareAddresses(a: string, b: string): number {
  return familyOf(a) - familyOf(b) || ipBytes(a).compare(ipBytes(b));
}

export function isLoopback(address: string): boolean {
  return address === "::1" || (isIPv4(address) && address.startsWith("127."));
}

export function ofFamily(addresses: readonly string[], family: Family): string | undefined {
  return addresses.find((address) => familyOf(address) === family);
}
