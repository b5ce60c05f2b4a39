// Who a container's own process is, looked up in its files: when it is made, and when it starts if they did not say it before.

import { asSwarmError } from "../../proto/kit/errors.ts";
import { withUser } from "../runtime/spec.ts";
import type { SpecUser } from "../runtime/spec-types.ts";
import type { Runtime, SnapshotMount } from "../runtime/types.ts";
import type { ContainerConfig, HostConfig } from "./container-types.ts";
import type { Libc } from "./libc.ts";
import type { ContainerFile, Records } from "./records.ts";
import { readInside, withRootfs } from "./rootfs.ts";
import { findUser } from "./users.ts";

const knownMax = 1_000;
/** In the specification of a container whose user is not known: it starts only when it is. */
export const nobody: SpecUser = { uid: 65_534, gid: 65_534 };

export interface OwnUserParts {
  readonly libc: Libc;
  readonly records: Records;
  readonly runtime: Pick<Runtime, "containerSpec" | "putContainerSpec">;
}

export class OwnUsers {
  readonly #parts: OwnUserParts;
  /** Who a user of an image is never changes. */
  readonly #known = new Map<string, SpecUser>();

  constructor(parts: OwnUserParts) {
    this.#parts = parts;
  }

  /** Of a container that is being made, its files still its image's; null where they do not know such a one. */
  async ofImage(
    chainId: string,
    container: { readonly id: string; readonly config: ContainerConfig; readonly host: HostConfig },
    mounts: readonly SnapshotMount[],
  ): Promise<SpecUser | null> {
    const key = JSON.stringify([chainId, container.config.User, container.host.GroupAdd]);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    try {
      const user = await this.#look(container, mounts);
      if (this.#known.size >= knownMax) this.#known.clear();
      this.#known.set(key, user);
      return user;
    } catch (error) {
      if (asSwarmError(error).code === "invalid") return null;
      throw error;
    }
  }

  /** As its files say now. Throws `invalid` as long as they do not. */
  async atStart(record: ContainerFile, mounts: readonly SnapshotMount[]): Promise<ContainerFile> {
    const { runtime } = this.#parts;
    const { isUserUnknown: _, ...known } = record;
    const user = await this.#look(record, mounts);
    const spec = await runtime.containerSpec(record.id);
    await runtime.putContainerSpec(record.id, { ...spec, process: withUser(spec.process, user) });
    return { ...known, process: withUser(record.process, user) };
  }

  #look(
    { id, config, host }: Pick<ContainerFile, "id" | "config" | "host">,
    mounts: readonly SnapshotMount[],
  ): Promise<SpecUser> {
    const { libc, records } = this.#parts;
    return withRootfs(libc, records.path(id), mounts, async (root) =>
      findUser(config.User ?? "", host.GroupAdd ?? [], {
        passwd: await readInside(root, "/etc/passwd"),
        group: await readInside(root, "/etc/group"),
      }),
    );
  }
}
