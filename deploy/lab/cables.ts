// The lab's network on this machine: namespaces, the switch's bridge, the hosts' cables.

import { existsSync, readdirSync, rmdirSync } from "node:fs";
import { type Machine, switchMachine } from "./names.ts";
import { LabError, run, tryRun } from "./run.ts";

const namespaceFolder = "/run/netns";

function namespaceExists(machine: Machine): boolean {
  return existsSync(`${namespaceFolder}/${machine.namespace}`);
}

/** Whether `ip netns` has made its folder on this machine yet; if not, the lab takes it away again at the end. */
export function namespaceFolderExists(): boolean {
  return existsSync(namespaceFolder);
}

export function removeNamespaceFolder(): void {
  if (!existsSync(namespaceFolder) || readdirSync(namespaceFolder).length > 0) return;
  tryRun("umount", namespaceFolder);
  try {
    rmdirSync(namespaceFolder);
  } catch {
    // Somebody else on this machine has begun to use it.
  }
}

export function makeSwitch(): void {
  const name = switchMachine.namespace;
  run("ip", "netns", "add", name);
  run("ip", "-n", name, "link", "set", "lo", "up");
  run("ip", "-n", name, "link", "add", "br0", "address", switchMachine.mac, "type", "bridge");
  run("ip", "-n", name, "addr", "add", `${switchMachine.address}/24`, "dev", "br0");
  run("ip", "-n", name, "addr", "add", `${switchMachine.address6}/64`, "dev", "br0", "nodad");
  run("ip", "-n", name, "link", "set", "br0", "up");
  // Where the bridge can be run through iptables, it must not be.
  const off =
    "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ -e $f ] && echo 0 > $f; done; true";
  run("ip", "netns", "exec", name, "sh", "-c", off);
}

/** A network namespace with an eth0 that leads to the switch; the address of the card is always the same. */
export function makeCable(machine: Machine): void {
  const [name, center] = [machine.namespace, switchMachine.namespace];
  run("ip", "netns", "add", name);
  run("ip", "-n", name, "link", "set", "lo", "up");
  const card = ["link", "add", "eth0", "address", machine.mac, "netns", name, "type", "veth"];
  run("ip", ...card, "peer", "name", machine.port, "netns", center);
  run("ip", "-n", center, "link", "set", machine.port, "master", "br0", "up");
  run("ip", "-n", name, "addr", "add", `${machine.address}/24`, "dev", "eth0");
  run("ip", "-n", name, "addr", "add", `${machine.address6}/64`, "dev", "eth0", "nodad");
  run("ip", "-n", name, "link", "set", "eth0", "up");
}

/** Nothing passes any more, in both directions; the card in the host sees its carrier go. */
export function cutCable(machine: Machine): void {
  run("ip", "-n", switchMachine.namespace, "link", "set", machine.port, "down");
}

export function healCable(machine: Machine): void {
  run("ip", "-n", switchMachine.namespace, "link", "set", machine.port, "up");
}

export function isCableIn(machine: Machine): boolean {
  const shown = run("ip", "-n", switchMachine.namespace, "-o", "link", "show", machine.port);
  return /<[^>]*\bUP\b/.test(shown);
}

/** The namespace goes with all that a daemon left in it: links, rules, connections. */
export function removeNamespace(machine: Machine): void {
  if (machine.port !== "" && namespaceExists(switchMachine))
    tryRun("ip", "-n", switchMachine.namespace, "link", "del", machine.port);
  if (!namespaceExists(machine) || tryRun("ip", "netns", "del", machine.namespace)) return;
  // Another `lab down` at the same time may have been quicker.
  if (namespaceExists(machine)) throw new LabError(`${machine.namespace} cannot be removed`);
}
