// What a container has in common with another one: its processes, its shared memory and what else is in its IPC namespace. Where that is
// is known only while the other one runs.

import { access, mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { SwarmError } from "../../proto/kit/errors.ts";
import { shmBytesDefault } from "../runtime/spec.ts";
import type { SpecMount } from "../runtime/spec-types.ts";
import type { Runtime } from "../runtime/types.ts";
import type { Container, HostConfig } from "./container-types.ts";
import { type Libc, mountFlags } from "./libc.ts";

export interface SharingParts {
  readonly runtime: Pick<Runtime, "containerSpec" | "putContainerSpec">;
  readonly libc: Pick<Libc, "mount" | "unmount">;
  readonly execRoot: string;
  /** Throws for one that is not there. */
  readonly find: (text: string) => Pick<Container, "id" | "state" | "host">;
}

const { noSuid, noDevices, noExec } = mountFlags;

/** `container:NAME`'s NAME. */
export function otherOf(mode: string | undefined): string | undefined {
  return /^container:(.+)$/.exec(mode ?? "")?.[1];
}

/** Where the memory is that a container shares with others. */
function shmPath(execRoot: string, id: string): string {
  return join(execRoot, "shm", id);
}

/** /dev/shm of a container that has no such memory of its own alone. */
export function shmMounts(
  { IpcMode: mode = "" }: HostConfig,
  execRoot: string,
  id: string,
): readonly SpecMount[] {
  const owner = mode === "shareable" ? id : otherOf(mode);
  const source = mode === "host" ? "/dev/shm" : owner === undefined ? "" : shmPath(execRoot, owner);
  const options = ["rbind", "rprivate", "rw"];
  return source === "" ? [] : [{ destination: "/dev/shm", type: "bind", source, options }];
}

export class Sharing {
  readonly #parts: SharingParts;

  constructor(parts: SharingParts) {
    this.#parts = parts;
  }

  /** Others by their ids: their names may change. */
  byId(host: HostConfig): Pick<HostConfig, "PidMode" | "IpcMode"> {
    const mode = (asked: string | undefined) => {
      const other = otherOf(asked);
      return other === undefined ? (asked ?? "") : `container:${this.#parts.find(other).id}`;
    };
    return { PidMode: mode(host.PidMode), IpcMode: mode(host.IpcMode) };
  }

  /** Before each start. Throws `conflict` when the other one does not run, or keeps to itself what is wanted of it. */
  async atStart({ id, host }: Pick<Container, "id" | "host">): Promise<void> {
    const { PidMode, IpcMode } = host;
    if (IpcMode === "shareable") await this.#openMemory(id, host.ShmSize || shmBytesDefault);
    const [seen, joined] = [otherOf(PidMode), otherOf(IpcMode)];
    const paths = new Map<string, string>();
    if (seen !== undefined) paths.set("pid", this.#namespaceOf(seen, "pid", "the PID namespace"));
    if (joined !== undefined) {
      paths.set("ipc", this.#namespaceOf(joined, "ipc", "the IPC namespace"));
      if (this.#parts.find(joined).host.IpcMode !== "shareable")
        throw new SwarmError(
          "conflict",
          `can't join IPC of container ${joined}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
        );
    }
    if (paths.size === 0) return;
    const { runtime } = this.#parts;
    const spec = await runtime.containerSpec(id);
    const namespaces = spec.linux.namespaces.map((each) => {
      const path = paths.get(each.type);
      return path === undefined ? each : { ...each, path };
    });
    await runtime.putContainerSpec(id, { ...spec, linux: { ...spec.linux, namespaces } });
  }

  /** After its end. Who has joined keeps what is in its memory. */
  async atEnd(id: string): Promise<void> {
    const path = shmPath(this.#parts.execRoot, id);
    if (!(await isThere(path))) return;
    try {
      this.#parts.libc.unmount(path);
    } catch {
      // Of a start that broke off: it is not mounted.
    }
    await rmdir(path);
  }

  async #openMemory(id: string, bytes: number): Promise<void> {
    await this.atEnd(id);
    const path = shmPath(this.#parts.execRoot, id);
    await mkdir(path, { recursive: true });
    const flags = noSuid | noDevices | noExec;
    this.#parts.libc.mount("shm", path, "tmpfs", flags, `mode=1777,size=${bytes}`);
  }

  #namespaceOf(other: string, type: string, what: string): string {
    const { Pid, Status } = this.#parts.find(other).state;
    if (Status !== "running")
      throw new SwarmError("conflict", `cannot join ${what} of a non running container: ${other}`);
    return `/proc/${Pid}/ns/${type}`;
  }
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
