// Binds and mounts of a container as clients write them. Pure.

import { codec } from "../../proto/codec.ts";
import type { Mount } from "../../proto/gen/types.ts";
import { SwarmError } from "../../proto/kit/errors.ts";
import type { CreateBody } from "./create-body.ts";

const propagations = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
/** Labels of SELinux and consistency of macOS: nothing to do on such a machine. */
const ignored = ["z", "Z", "consistent", "cached", "delegated"];

/** All of a container's mounts but its tmpfs ones. Throws `invalid` with Docker's sentences. */
export function mountsOf({ HostConfig: host, Volumes }: CreateBody): readonly Mount[] {
  const mounts = [
    ...host.Binds.map((bind) => parseBind(bind, host.VolumeDriver)),
    ...host.Mounts.map(parseMount),
  ];
  const targets = new Set(Object.keys(host.Tmpfs));
  for (const { Target } of mounts) {
    if (targets.has(Target)) throw new SwarmError("invalid", `Duplicate mount point: ${Target}`);
    targets.add(Target);
  }
  const anonymous = Volumes.filter((path) => !targets.has(path)).map((path) => {
    if (!path.startsWith("/"))
      throw new SwarmError("invalid", `invalid volume specification: '${path}'`);
    return plain("volume", "", path, false);
  });
  return [...mounts, ...anonymous];
}

/** `/path:/target[:options]`, `name:/target[:options]` or `/target`. */
function parseBind(bind: string, driver: string): Mount {
  const wrong = new SwarmError("invalid", `invalid volume specification: '${bind}'`);
  const parts = bind.split(":");
  if (parts.length > 3 || parts.some((part) => part === "")) throw wrong;
  const [source = "", target, words = ""] = parts.length === 1 ? ["", ...parts] : parts;
  if (target === undefined || !target.startsWith("/"))
    throw new SwarmError(
      "invalid",
      `invalid volume specification: '${bind}': invalid mount config for type "${source.startsWith("/") ? "bind" : "volume"}": invalid mount path: '${target ?? ""}' mount path must be absolute`,
    );
  const isBind = source.startsWith("/");
  if (!isBind && source !== "" && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(source))
    throw new SwarmError(
      "invalid",
      `invalid volume specification: '${bind}': invalid mount config: "${source}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  let [isReadonly, propagation, noCopy] = [false, "", false];
  for (const word of words === "" ? [] : words.split(",")) {
    if (word === "ro" || word === "rw") isReadonly = word === "ro";
    else if (propagations.includes(word) && isBind) propagation = word;
    else if (word === "nocopy" && !isBind) noCopy = true;
    else if (!ignored.includes(word)) throw new SwarmError("invalid", `invalid mode: ${words}`);
  }
  const mount = plain(isBind ? "bind" : "volume", source, target, isReadonly);
  if (isBind) {
    const unasked = { NonRecursive: false, ReadOnlyNonRecursive: false };
    return {
      ...mount,
      BindOptions: {
        ...unasked,
        ...{ Propagation: propagation, CreateMountpoint: true, ReadOnlyForceRecursive: false },
      },
    };
  }
  return {
    ...mount,
    VolumeOptions: {
      NoCopy: noCopy,
      Labels: {},
      Subpath: "",
      ...(driver === "" ? {} : { DriverConfig: { Name: driver, Options: {} } }),
    },
  };
}

function parseMount(json: Readonly<Record<string, unknown>>): Mount {
  const mount = codec("Mount").parse(json);
  const wrong = (why: string) =>
    new SwarmError("invalid", `invalid mount config for type "${mount.Type}": ${why}`);
  if (!["bind", "volume", "tmpfs"].includes(mount.Type))
    throw new SwarmError("invalid", `mount type unknown: "${mount.Type}"`);
  if (mount.Target === "") throw wrong("field Target must not be empty");
  if (mount.Type === "bind" && mount.Source === "") throw wrong("field Source must not be empty");
  if (mount.Type === "tmpfs" && mount.Source !== "")
    throw wrong("field Source must not be specified");
  if (mount.Type !== "bind" && mount.BindOptions !== undefined)
    throw wrong("field BindOptions must not be specified");
  if (mount.Type !== "volume" && mount.VolumeOptions !== undefined)
    throw wrong("field VolumeOptions must not be specified");
  if (mount.Type !== "tmpfs" && mount.TmpfsOptions !== undefined)
    throw wrong("field TmpfsOptions must not be specified");
  return mount;
}

function plain(Type: string, Source: string, Target: string, ReadOnly: boolean): Mount {
  return { Type, Source, Target, ReadOnly, Consistency: "" };
}
