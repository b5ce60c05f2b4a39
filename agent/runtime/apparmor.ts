// The AppArmor profile of containers that name none: they may do what ordinary programs do, but not reach around their
// confinement through /proc, /sys and mounts.

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { messageOf } from "../../proto/kit/errors.ts";
import { appArmorProfile } from "./spec.ts";

const loadedPath = "/sys/kernel/security/apparmor/profiles";
const loadMsMax = 30_000;

const profile = `#include <tunables/global>

profile ${appArmorProfile} flags=(attach_disconnected,mediate_deleted) {
  #include <abstractions/base>

  capability,
  file,
  network,
  umount,
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send, receive) peer=${appArmorProfile},
  ptrace (read, readby, trace, tracedby) peer=${appArmorProfile},

  deny mount,
  deny @{PROC}/{acpi,fs,irq,bus,scsi}/** wklx,
  deny @{PROC}/sys/{abi,debug,dev,fs,vm}/** wklx,
  deny @{PROC}/{kcore,kmem,mem,sysrq-trigger} rwklx,
  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}/** wklx,
  deny /sys/kernel/security/** rwklx,
}
`;

/** Loads it unless it is loaded. Null when it is there, else a sentence about why it is not. */
export async function loadAppArmorProfile(): Promise<string | null> {
  const loaded = await readFile(loadedPath, "utf8").catch(() => "");
  if (loaded.split("\n").some((line) => line.startsWith(`${appArmorProfile} `))) return null;
  try {
    await parse(profile);
    return null;
  } catch (error) {
    return `AppArmor is on, but containers run without a profile: apparmor_parser: ${messageOf(error)}`;
  }
}

function parse(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = execFile("apparmor_parser", ["-Kr"], { timeout: loadMsMax }, (error) =>
      error === null ? resolve() : reject(error),
    );
    child.stdin?.on("error", () => {});
    child.stdin?.end(text);
  });
}
