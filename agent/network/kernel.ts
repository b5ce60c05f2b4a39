// Whether this machine's kernel and libraries can do what the networks need: tried for real, in namespaces of its own.

import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf } from "../../proto/kit/errors.ts";
import { createNamespace, removeNamespace } from "../../proto/kit/netns.ts";
import { setSysctls } from "./apply.ts";
import { deleteLink, newLink } from "./links.ts";
import { runNft } from "./nft.ts";
import { NetlinkSocket } from "./socket.ts";

/** Each as a table of its own, so that what is missing is named. */
const nftFeatures: Readonly<Record<string, string>> = {
  "nftables (nf_tables)": "chain c { type filter hook prerouting priority 0; }",
  "nftables address translation (nft_nat, nft_masq)":
    "chain c { type nat hook postrouting priority 100; ip saddr 10.0.0.1 snat to 10.0.0.2\nmasquerade\n}",
  "nftables numgen":
    "chain c { type nat hook prerouting priority -100; meta l4proto tcp dnat ip to numgen inc mod 2 map { 0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 80 }\n}",
  "nftables fib":
    "chain c { type nat hook prerouting priority -100; fib daddr type local accept\n}",
  "nftables conntrack zones and marks (nft_ct)":
    "map z { typeof ether saddr : ct original zone; }\nchain c { type filter hook prerouting priority -300; ct original zone set ether saddr map @z\nct mark set 1\nnotrack\n}",
  "nftables reject":
    "chain c { type filter hook input priority 0; ip protocol tcp reject with tcp reset\n}",
};

/** What is missing, one sentence each; nothing: all is there. Needs root; takes some tens of milliseconds. */
export function checkKernel(): Promise<readonly string[]> {
  return Promise.resolve(tryAll());
}

function tryAll(): readonly string[] {
  const directory = mkdtempSync(join(tmpdir(), "tsswarm-check-"));
  const [here, there] = [join(directory, "here"), join(directory, "there")];
  try {
    createNamespace(here);
    createNamespace(there);
    return [...tryLinks(here, there), ...tryRules(here), ...trySettings(here)];
  } catch (error) {
    return [`network namespaces: ${messageOf(error)}`];
  } finally {
    removeNamespace(here);
    removeNamespace(there);
    rmSync(directory, { recursive: true, force: true });
  }
}

function tryLinks(here: string, there: string): readonly string[] {
  const missing: string[] = [];
  const namespace = openSync(there, "r");
  const socket = new NetlinkSocket(here);
  try {
    const mtu = 1400;
    const veth = { kind: "veth", name: "ve0", mtu, peer: { name: "ve0", namespace } } as const;
    const refusal = socket.batch([newLink(veth)])[0];
    if (refusal !== undefined) missing.push(`virtual Ethernet pairs (veth): ${refusal.code}`);
    const vxlan = { kind: "vxlan", name: "vx0", mac: "02:73:77:00:00:01", mtu, id: 4096 } as const;
    const device = newLink({ ...vxlan, local: "127.0.0.1", port: 4789, namespace });
    const failed = socket.batch([device])[0];
    if (failed !== undefined) missing.push(`VXLAN devices (vxlan): ${failed.code}`);
    else missing.push(...tryEgress(there));
    socket.batch([deleteLink("ve0")]);
  } finally {
    socket[Symbol.dispose]();
    closeSync(namespace);
  }
  return missing;
}

function tryEgress(namespace: string): readonly string[] {
  const chain =
    'chain c { type filter hook egress device "vx0" priority 0; ether daddr set 02:73:77:00:00:02\n}';
  return tryTable(
    namespace,
    "netdev",
    "nftables egress hook (kernel 5.16 or newer, nftables 1.0.1 or newer)",
    chain,
  );
}

function tryRules(namespace: string): readonly string[] {
  return Object.entries(nftFeatures).flatMap(([name, text]) =>
    tryTable(namespace, "ip", name, text),
  );
}

function tryTable(
  namespace: string,
  family: string,
  name: string,
  text: string,
): readonly string[] {
  try {
    runNft(namespace, `table ${family} check {\n${text}\n}\n`);
    runNft(namespace, `delete table ${family} check\n`);
    return [];
  } catch (error) {
    return [`${name}: ${messageOf(error)}`];
  }
}

function trySettings(namespace: string): readonly string[] {
  try {
    setSysctls(namespace, { "ipv4/ip_forward": "1" });
    return [];
  } catch (error) {
    return [`writable network settings under /proc/sys: ${messageOf(error)}`];
  }
}
