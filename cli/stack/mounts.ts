// A service's `volumes` and `tmpfs` as mounts. Pure.

import type { Mount } from "../../proto/gen/types.ts";
import type { Body } from "../body.ts";
import { bytes } from "../values.ts";
import { namespaceLabels, scoped } from "./names.ts";
import type { ComposeMount, ComposeService, Project } from "./project.ts";
import { StackError } from "./tree.ts";

/** In the order of the file. Throws a StackError for a volume that the file does not define. */
export function mountsOf(
  stack: string,
  project: Project,
  name: string,
  service: ComposeService,
): readonly Body<Mount>[] {
  const volumes = (service.volumes ?? []).map((mount, i) =>
    mountOf(stack, project, mount, `services.${name}.volumes[${i}]`),
  );
  return [
    ...volumes,
    ...(service.tmpfs ?? []).map((text, i) => tmpfs(text, `services.${name}.tmpfs[${i}]`)),
  ];
}

function mountOf(stack: string, project: Project, mount: ComposeMount, path: string): Body<Mount> {
  const { type, source, target } = mount;
  const common = {
    Target: target,
    ReadOnly: mount.read_only,
    Consistency: mount.consistency,
  };
  switch (type) {
    case "bind":
      if (source === undefined) throw new StackError(`${path}: a bind needs a source`);
      return { Type: "bind", Source: source, ...common, BindOptions: bindOptions(mount) };
    case "tmpfs":
      if (source !== undefined) throw new StackError(`${path}: a tmpfs has no source`);
      return {
        Type: "tmpfs",
        ...common,
        TmpfsOptions: { SizeBytes: mount.tmpfs?.size, Mode: mount.tmpfs?.mode },
      };
    case "image":
      if (source === undefined) throw new StackError(`${path}: an image is needed as the source`);
      return { Type: "image", Source: source, ...common };
    case "volume":
      return { Type: "volume", ...common, ...volume(stack, project, mount, path) };
    case "cluster":
    case "npipe":
      throw new StackError(`${path}: mounts of type ${type} are not known here`);
    default:
      return type satisfies never;
  }
}

function bindOptions({ bind }: ComposeMount): Body<Mount>["BindOptions"] {
  return {
    Propagation: bind?.propagation,
    CreateMountpoint: bind?.create_host_path,
    NonRecursive: bind?.recursive === "disabled" ? true : undefined,
    ReadOnlyNonRecursive: bind?.recursive === "writable" ? true : undefined,
    ReadOnlyForceRecursive: bind?.recursive === "readonly" ? true : undefined,
  };
}

function volume(
  stack: string,
  project: Project,
  mount: ComposeMount,
  path: string,
): Pick<Body<Mount>, "Source" | "VolumeOptions"> {
  const own = { NoCopy: mount.volume?.nocopy, Subpath: mount.volume?.subpath };
  const { source } = mount;
  if (source === undefined) return { VolumeOptions: { ...own, Labels: mount.volume?.labels } };
  const defined = project.volumes[source];
  if (defined === undefined)
    throw new StackError(
      `${path}: undefined volume "${source}": define it in the top-level volumes`,
    );
  if (defined.external === true)
    return { Source: defined.name ?? source, VolumeOptions: { ...own } };
  const isDriven = defined.driver !== undefined || defined.driver_opts !== undefined;
  return {
    Source: defined.name ?? scoped(stack, source),
    VolumeOptions: {
      ...own,
      Labels: namespaceLabels(stack, { ...defined.labels, ...mount.volume?.labels }),
      DriverConfig: isDriven ? { Name: defined.driver, Options: defined.driver_opts } : undefined,
    },
  };
}

/** /run, /run:size=64m,mode=1777 */
function tmpfs(text: string, path: string): Body<Mount> {
  const [Target = "", options = ""] = text.split(":");
  let [SizeBytes, Mode]: (number | undefined)[] = [];
  let ReadOnly: boolean | undefined;
  for (const option of options.split(",").filter((each) => each !== "")) {
    const [key, value = ""] = option.split("=");
    if (key === "size") SizeBytes = bytes(value);
    else if (key === "mode") Mode = Number.parseInt(value, 8);
    else if (key === "ro") ReadOnly = true;
    else if (!["rw", "noexec", "exec", "nosuid", "suid", "nodev", "dev"].includes(key ?? ""))
      throw new StackError(`${path}: unknown option "${option}" of a tmpfs`);
  }
  return { Type: "tmpfs", Target, ReadOnly, TmpfsOptions: { SizeBytes, Mode } };
}
