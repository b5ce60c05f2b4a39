// A swarm's spec that `swarm init --force-new-cluster` brings, over the one the cluster has. Pure.

import type { ClusterSpec } from "../../proto/gen/types.ts";

/** What is left out, 0 or empty stays as it is, as in Docker; and no lock is taken off by leaving it out. */
export function specOver(spec: ClusterSpec, asked: ClusterSpec): ClusterSpec {
  const { Labels, EncryptionConfig, Name: _, ...parts } = asked;
  const said = Object.entries(parts).flatMap(([name, part]) => {
    const before = spec[name as keyof ClusterSpec] as object | undefined;
    const changes = Object.entries(part ?? {}).filter(([, value]) => says(value));
    return changes.length === 0 ? [] : [[name, { ...before, ...Object.fromEntries(changes) }]];
  });
  return {
    ...spec,
    ...Object.fromEntries(said),
    ...(Object.keys(Labels).length === 0 ? {} : { Labels }),
    ...(EncryptionConfig?.AutoLockManagers === true ? { EncryptionConfig } : {}),
  };
}

export function saysAnything(asked: ClusterSpec): boolean {
  const nothing: ClusterSpec = { Name: "", Labels: {} };
  return JSON.stringify(specOver(nothing, asked)) !== JSON.stringify(nothing);
}

function says(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return value !== undefined && value !== null && value !== 0 && value !== "";
}
