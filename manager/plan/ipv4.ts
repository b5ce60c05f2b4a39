// IPv4 addresses and subnets as numbers.

export interface Subnet {
  /** The network's own address. */
  readonly first: number;
  readonly last: number;
  readonly bits: number;
}

/** null when it is not four numbers from 0 to 255. */
export function parseAddress(text: string): number | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  let value = 0;
  for (const part of match.slice(1)) {
    const byte = Number(part);
    if (byte > 255) return null;
    value = value * 256 + byte;
  }
  return value;
}

export function formatAddress(value: number): string {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join(".");
}

/** "10.0.1.5/24" is the subnet 10.0.1.0/24. null when it is none. */
export function parseSubnet(text: string): Subnet | null {
  const [address = "", mask = "", ...rest] = text.split("/");
  const value = parseAddress(address);
  if (value === null || rest.length > 0 || !/^\d{1,2}$/.test(mask)) return null;
  const bits = Number(mask);
  if (bits > 32) return null;
  const size = 2 ** (32 - bits);
  const first = Math.floor(value / size) * size;
  return { first, last: first + size - 1, bits };
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatAddress(subnet.first)}/${subnet.bits}`;
}

export function overlaps(a: Subnet, b: Subnet): boolean {
  return a.first <= b.last && b.first <= a.last;
}

export function contains(subnet: Subnet, address: number): boolean {
  return subnet.first <= address && address <= subnet.last;
}
