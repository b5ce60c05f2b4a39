// Linux capabilities by name, and Docker's choice of them for containers.

/** In the kernel's order: the index is the bit. */
export const capabilityNames: readonly string[] = [
  "CHOWN",
  "DAC_OVERRIDE",
  "DAC_READ_SEARCH",
  "FOWNER",
  "FSETID",
  "KILL",
  "SETGID",
  "SETUID",
  "SETPCAP",
  "LINUX_IMMUTABLE",
  "NET_BIND_SERVICE",
  "NET_BROADCAST",
  "NET_ADMIN",
  "NET_RAW",
  "IPC_LOCK",
  "IPC_OWNER",
  "SYS_MODULE",
  "SYS_RAWIO",
  "SYS_CHROOT",
  "SYS_PTRACE",
  "SYS_PACCT",
  "SYS_ADMIN",
  "SYS_BOOT",
  "SYS_NICE",
  "SYS_RESOURCE",
  "SYS_TIME",
  "SYS_TTY_CONFIG",
  "MKNOD",
  "LEASE",
  "AUDIT_WRITE",
  "AUDIT_CONTROL",
  "SETFCAP",
  "MAC_OVERRIDE",
  "MAC_ADMIN",
  "SYSLOG",
  "WAKE_ALARM",
  "BLOCK_SUSPEND",
  "AUDIT_READ",
  "PERFMON",
  "BPF",
  "CHECKPOINT_RESTORE",
].map((name) => `CAP_${name}`);

/** What a container gets without being asked (Docker Engine, "Runtime privilege and Linux capabilities"). */
export const defaultCapabilities: readonly string[] = [
  "CAP_AUDIT_WRITE",
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_MKNOD",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_RAW",
  "CAP_SETFCAP",
  "CAP_SETGID",
  "CAP_SETPCAP",
  "CAP_SETUID",
  "CAP_SYS_CHROOT",
];

/** The set bits of a mask as /proc/PID/status writes it (hexadecimal). */
export function capabilitiesOfMask(mask: string): readonly string[] {
  const bits = BigInt(`0x${mask}`);
  return capabilityNames.filter((_, bit) => ((bits >> BigInt(bit)) & 1n) === 1n);
}

/** Defaults plus `add` minus `drop`; "ALL" stands for every one. Unknown names are returned beside. Sorted. */
export function chooseCapabilities(
  add: readonly string[],
  drop: readonly string[],
  privileged: boolean,
): { readonly chosen: readonly string[]; readonly unknown: readonly string[] } {
  const adding = add.map(normal);
  const dropping = drop.map(normal);
  const unknown = [...adding, ...dropping].filter(
    (name) => name !== "CAP_ALL" && !capabilityNames.includes(name),
  );
  const everything = privileged || adding.includes("CAP_ALL");
  const base = everything
    ? capabilityNames
    : dropping.includes("CAP_ALL")
      ? []
      : defaultCapabilities;
  const chosen = new Set(base);
  for (const name of adding) if (capabilityNames.includes(name)) chosen.add(name);
  for (const name of dropping) chosen.delete(name);
  return { chosen: [...chosen].sort(), unknown };
}

function normal(name: string): string {
  const upper = name.toUpperCase();
  return upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
}
