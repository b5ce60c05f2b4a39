// Which services of a file are meant: those without a profile, and those of the profiles asked for. Pure.

import type { Project } from "./project.ts";
import { StackError } from "./tree.ts";

/** `*` asks for all. Secrets and configs that only services left out use are left out too. */
export function withProfiles(project: Project, asked: readonly string[]): Project {
  const isActive = (profiles: readonly string[] | undefined) =>
    profiles === undefined ||
    profiles.length === 0 ||
    asked.includes("*") ||
    profiles.some((each) => asked.includes(each));
  const all = Object.entries(project.services);
  const active = all.filter(([, service]) => isActive(service.profiles));
  const names = new Set(active.map(([name]) => name));
  const services = active.map(([name, service]) => {
    const dependencies = Object.entries(service.depends_on ?? {}).filter(([other, said]) => {
      if (names.has(other)) return true;
      if (!said.required) return false;
      throw new StackError(
        project.services[other] === undefined
          ? `services.${name}.depends_on: undefined service "${other}"`
          : `services.${name}.depends_on: "${other}" is in a profile that was not asked for: give --profile ${project.services[other]?.profiles?.[0]}`,
      );
    });
    return [name, { ...service, depends_on: Object.fromEntries(dependencies) }] as const;
  });
  const files = (kind: "secrets" | "configs") => {
    const using = (name: string) =>
      all.filter(([, each]) => (each[kind] ?? []).some(({ source }) => source === name));
    return Object.fromEntries(
      Object.entries(project[kind]).filter(([name]) => {
        const users = using(name);
        return users.length === 0 || users.some(([user]) => names.has(user));
      }),
    );
  };
  return {
    ...project,
    services: Object.fromEntries(services),
    secrets: files("secrets"),
    configs: files("configs"),
  };
}
