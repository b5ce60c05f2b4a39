// Docker's image inspect body.

import { type Image, type Images, namesOf } from "./images.ts";

export async function inspectImage(
  images: Images,
  reference: string,
): Promise<Readonly<Record<string, unknown>>> {
  const image = await images.find(reference);
  const { repoTags, repoDigests } = namesOf(await images.named(image.id));
  const { config } = image;
  const size = await images.bytes(image);
  return {
    Id: image.id,
    RepoTags: repoTags,
    RepoDigests: repoDigests,
    Parent: image.parent,
    Comment: commentOf(image),
    Created: config.created,
    Author: config.author,
    DockerVersion: "",
    Architecture: config.architecture,
    ...(config.variant === "" ? {} : { Variant: config.variant }),
    Os: config.os,
    Size: size,
    VirtualSize: size,
    GraphDriver: { Name: "overlayfs", Data: null },
    RootFS: { Type: "layers", Layers: config.diffIds },
    Metadata: { LastTagTime: image.record.updatedAt },
    Descriptor: image.record.target,
    Config: configOf(image),
  };
}

function configOf({ config: { config: own } }: Image): Readonly<Record<string, unknown>> {
  return {
    Hostname: "",
    Domainname: "",
    User: own.User,
    AttachStdin: false,
    AttachStdout: false,
    AttachStderr: false,
    Tty: false,
    OpenStdin: false,
    StdinOnce: false,
    Env: own.Env,
    Cmd: own.Cmd.length === 0 ? null : own.Cmd,
    Image: "",
    Volumes: own.Volumes.length === 0 ? null : emptyMarks(own.Volumes),
    ...(own.ExposedPorts.length === 0 ? {} : { ExposedPorts: emptyMarks(own.ExposedPorts) }),
    ...(own.Healthcheck === null ? {} : { Healthcheck: own.Healthcheck }),
    WorkingDir: own.WorkingDir,
    Entrypoint: own.Entrypoint.length === 0 ? null : own.Entrypoint,
    OnBuild: own.OnBuild.length === 0 ? null : own.OnBuild,
    Labels: own.Labels,
    ...(own.StopSignal === "" ? {} : { StopSignal: own.StopSignal }),
    ...(own.Shell.length === 0 ? {} : { Shell: own.Shell }),
  };
}

/** That of the newest step. */
function commentOf({ config }: Image): string {
  const last = config.history.at(-1);
  if (typeof last !== "object" || last === null || !("comment" in last)) return "";
  return typeof last.comment === "string" ? last.comment : "";
}

function emptyMarks(names: readonly string[]): Readonly<Record<string, object>> {
  return Object.fromEntries(names.map((name) => [name, {}]));
}
