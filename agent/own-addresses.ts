// The addresses of this node: from what was asked of init and join, from the disk, and anew when the machine has moved.

import { mkdir } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import type { NodeIdentity } from "../proto/identity.ts";
import type { Log } from "../proto/kit/log.ts";
import {
  addressTowards,
  advertiseAddress,
  dataPathAddress,
  hostOf,
  listenAddress,
  portOf,
} from "./addresses.ts";
import type { SwarmInit, SwarmJoin } from "./api/types.ts";
import { deviceOf, movedAddresses } from "./moved.ts";
import { type Addresses, readAddresses, writeAddresses } from "./settings.ts";

/** Throws `invalid` when it is not clear which are meant. */
export function addressesFor(request: SwarmInit, byDefault: string): Addresses {
  const interfaces = networkInterfaces();
  const asked = request.AdvertiseAddr || byDefault;
  const listenAddr = listenAddress(request.ListenAddr, interfaces);
  const fallback = hostOf(listenAddr) === "0.0.0.0" ? "" : listenAddr;
  const advertiseAddr = advertiseAddress(asked || fallback, interfaces, portOf(listenAddr));
  return {
    advertiseAddr,
    dataPathAddr: dataPath(request.DataPathAddr, advertiseAddr),
    listenAddr,
  };
}

/** Unless told otherwise, the address from which the managers are reached. */
export async function addressesTowards(request: SwarmJoin, byDefault: string): Promise<Addresses> {
  const asked = request.AdvertiseAddr || byDefault;
  const listenAddr = listenAddress(request.ListenAddr, networkInterfaces());
  const advertiseAddr = advertiseAddress(
    asked || (await addressTowards(request.RemoteAddrs[0] ?? "")),
    networkInterfaces(),
    portOf(listenAddr),
  );
  return {
    advertiseAddr,
    dataPathAddr: dataPath(request.DataPathAddr, advertiseAddr),
    listenAddr,
  };
}

/** As saved, unless this machine has moved while it was off. */
export async function ownAddresses(
  folder: string,
  identity: NodeIdentity,
  log: Log,
): Promise<Addresses> {
  const saved = await readAddresses(folder);
  if (saved === null) return guess(identity);
  const interfaces = networkInterfaces();
  if (deviceOf(saved, interfaces) !== null) return saved;
  const towards = await towardsOthers(identity.managers, saved.advertiseAddr);
  const moved = movedAddresses(saved, null, towards, interfaces);
  if (moved === null) return saved;
  log.warn({ before: saved, after: moved }, "this machine's address has changed");
  await saveAddresses(folder, moved);
  return moved;
}

/** This machine's address towards another manager than itself; null when there is none, or no way to it. */
export async function towardsOthers(
  managers: readonly string[],
  own: string,
): Promise<string | null> {
  for (const address of managers)
    if (address !== own)
      try {
        return await addressTowards(address);
      } catch {
        // There is no way to this one; to another perhaps.
      }
  return null;
}

/** `folder`: where they are kept. */
export async function saveAddresses(folder: string, addresses: Addresses): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeAddresses(folder, addresses);
}

/** A node whose settings are lost still has its way to the managers. */
async function guess(identity: NodeIdentity): Promise<Addresses> {
  const address = await addressTowards(identity.managers[0] ?? "");
  const advertiseAddr = advertiseAddress(address, networkInterfaces());
  return { advertiseAddr, dataPathAddr: address, listenAddr: "" };
}

function dataPath(asked: string, advertiseAddr: string): string {
  return asked === "" ? hostOf(advertiseAddr) : dataPathAddress(asked, networkInterfaces());
}
