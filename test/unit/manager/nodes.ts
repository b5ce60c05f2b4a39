// Nodes of tests: they join whatever cluster a test has, and keep a session with it.

import { join } from "node:path";
import { newKeyAndCsr } from "../../../agent/session/identity.ts";
import { type JoinOptions, joinCluster } from "../../../agent/session/join.ts";
import type { SessionOptions } from "../../../agent/session/session.ts";
import type { NodeIdentity } from "../../../proto/identity.ts";
import { silentLog } from "../../../proto/kit/log.ts";
import { realWorld } from "../../../proto/kit/world.ts";
import type { SmallCluster } from "./small-cluster.ts";

/** Whoever waits longer shall hear why rather than wait for ever. */
const joinMsMax = 60_000;

type Needed = "directory" | "remotes" | "token";
type Wanted = Pick<JoinOptions, Needed> & Partial<JoinOptions>;

/** The hostname is the last part of the directory, unless it is described otherwise. */
export async function joinOptions(wanted: Wanted): Promise<JoinOptions> {
  return {
    keyAndCsr: await newKeyAndCsr(),
    description: { Hostname: wanted.directory.split("/").at(-1) ?? "" },
    availability: "",
    advertiseAddr: "",
    dataPathAddr: "",
    routes: [],
    ...wanted,
  };
}

export async function joined(wanted: Wanted): Promise<NodeIdentity> {
  return joinCluster(await joinOptions(wanted), AbortSignal.timeout(joinMsMax));
}

/** A worker; its directory is in the cluster's, and has its name. */
export function joinedTo(cluster: SmallCluster, name = "h2"): Promise<NodeIdentity> {
  const { folder, address, tokens } = cluster;
  return joined({ directory: join(folder, name), remotes: [address], token: tokens.Worker });
}

/** The session of a node that holds nothing and has no files; `directory` is its identity's. */
export function sessionOptions(
  identity: NodeIdentity,
  directory: string,
  more: Partial<SessionOptions> = {},
): SessionOptions {
  return {
    identity,
    identityDirectory: directory,
    savedFile: join(directory, "wanted.pb"),
    bootId: "boot-1",
    hello: () => ({ DataPathAddr: "127.0.0.1", Routes: [], Tasks: [] }),
    unreachablePeers: () => [],
    files: { keys: () => [], take: async () => {} },
    world: realWorld,
    log: silentLog,
    ...more,
  };
}
