// A service's credentials for the registry of its image, on their way: as a secret that no task sees, so that like those they are in
// memory only, and only on nodes that run the service.

import type { RegistryCredentials, Secret } from "./gen/types.ts";

const label = "tsswarm.registry-auth";

/** What nodes get; its id is new whenever the credentials are. */
export function asSecret({ ID, Data }: RegistryCredentials, serviceId: string): Secret {
  const Spec = { Name: "", Labels: { [label]: serviceId }, Data };
  return { ID, CreatedAt: "", UpdatedAt: "", Generation: 0, Spec };
}

/** Whether it is such a secret of that service. */
export function isAuthOf(secret: Pick<Secret, "Spec">, serviceId: string): boolean {
  return secret.Spec?.Labels[label] === serviceId;
}
