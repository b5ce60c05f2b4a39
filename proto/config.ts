// The daemon's settings: read once, from the file and the flags, into one frozen object.

import { z } from "zod";
import { SwarmError } from "./kit/errors.ts";

const absolute = z.string().regex(/^\//, "an absolute path is expected");
const host = z
  .string()
  .regex(/^(unix:\/\/\/|tcp:\/\/)/, "unix:///path or tcp://host:port is expected");

const logSize = z.string().regex(/^\d+[kmg]?b?$/i, "a size such as 10m is expected");

/** local: Docker's other limits; journald: systemd's journal; none: nothing is kept. */
export const logDrivers = ["json-file", "local", "journald", "none"] as const;
export type LogDriver = (typeof logDrivers)[number];

/** Keys are those of Docker's daemon.json where Docker has them. */
const daemonConfig = z.strictObject({
  "data-root": absolute.default("/var/lib/tsswarm"),
  "exec-root": absolute.default("/run/tsswarm"),
  hosts: z.array(host).min(1).default(["unix:///run/tsswarm/docker.sock"]),
  /** TCP hosts ask callers for a certificate of this CA; without it they listen on loopback alone. */
  tlsverify: z.boolean().default(false),
  tlscacert: z.string().default(""),
  tlscert: z.string().default(""),
  tlskey: z.string().default(""),
  /** host:port, where /metrics is answered for Prometheus; "": nowhere. */
  "metrics-addr": z
    .string()
    .regex(/^(|(\[[\da-f:.]+\]|[^\s:[\]]*):\d+)$/i, "host:port is expected")
    .default(""),
  "docker-socket": z.boolean().default(false),
  containerd: absolute.default("/run/containerd/containerd.sock"),
  "containerd-namespace": z.string().min(1).default("tsswarm"),
  "cgroup-parent": z.string().default("/tsswarm"),
  /** Programs that run containers, besides runc and crun. */
  runtimes: z
    .record(
      z.string().regex(/^\w[\w.-]*$/, "a name of letters, digits, _, . and - is expected"),
      z.union([
        z.strictObject({ path: z.string().min(1) }),
        z.strictObject({
          runtimeType: z
            .string()
            .regex(/^io\.containerd\.[a-z0-9-]+\.v\d+$/, "io.containerd.NAME.v2 is expected"),
        }),
      ]),
    )
    .default({}),
  /** "": crun where it can work, else runc. */
  "default-runtime": z.string().default(""),
  "log-level": z.enum(["trace", "debug", "info", "warn", "error"]).default("info"),
  /** Of containers that ask for none. */
  "log-driver": z.enum(logDrivers).default("json-file"),
  /** Of containers whose log goes where the daemon's do: what they do not say themselves. */
  "log-opts": z
    .strictObject({
      "max-size": logSize.optional(),
      "max-file": z
        .string()
        .regex(/^[1-9]\d*$/, "a positive number is expected")
        .optional(),
      compress: z.enum(["true", "false"]).optional(),
      mode: z.enum(["blocking", "non-blocking"]).optional(),
      "max-buffer-size": logSize.optional(),
      tag: z.string().optional(),
      labels: z.string().optional(),
      "labels-regex": z.string().optional(),
      env: z.string().optional(),
      "env-regex": z.string().optional(),
    })
    .prefault({}),
  /** Images that only tasks have pulled, once nothing uses them. */
  "image-collection": z
    .strictObject({
      enabled: z.boolean().default(true),
      /** Not used for so long. 0: only when the disk is full. */
      "max-age-hours": z.number().min(0).default(168),
      "min-age-minutes": z.number().min(0).default(2),
      /** Of the data-root's file system: from this fill on, the longest unused first, until it is down to the lower one. */
      "high-percent": z.number().min(1).max(100).default(85),
      "low-percent": z.number().min(0).max(100).default(80),
    })
    .refine((limits) => limits["low-percent"] <= limits["high-percent"], {
      message: "low-percent is above high-percent",
    })
    .prefault({}),
  labels: z.array(z.string().regex(/^[^=]+=/, "key=value is expected")).default([]),
  /** gpu=UUID1, gpu=UUID2: named ones; fpga=4: so many. */
  "node-generic-resources": z
    .array(z.string().regex(/^[\w.-]+=[^=,\s]+$/, "kind=value is expected"))
    .default([]),
  "insecure-registries": z.array(z.string()).default([]),
  "registry-mirrors": z.array(z.url()).default([]),
  "swarm-default-advertise-addr": z.string().default(""),
  /** Seconds that certificates of a cluster made here live at least. Less than an hour is for tests. */
  "swarm-cert-expiry-min": z.int("a number of seconds is expected").min(1).default(3_600),
  /** 0: derived from the way to the peers. */
  mtu: z.int("a number of bytes is expected").min(0).max(65_535).default(0),
});

export type DaemonConfig = Readonly<z.infer<typeof daemonConfig>>;

/** Throws `invalid` naming the key; unknown keys are errors. `source` is where it came from, for the message. */
export function parseDaemonConfig(json: unknown, source: string): DaemonConfig {
  const parsed = daemonConfig.safeParse(json);
  if (parsed.success) return Object.freeze(parsed.data);
  const problems = parsed.error.issues.map(
    (issue) => `${issue.path.join(".") || "the file"}: ${issue.message}`,
  );
  throw new SwarmError("invalid", `${source}: ${problems.join("; ")}`);
}
