// The shape of a measurement.

import type { Figure } from "./record.ts";
import type { Cluster } from "./services.ts";

export interface Measurement {
  /** As `--only` knows it. */
  readonly name: string;
  /** Measures once and leaves the cluster as it was. What a side cannot do gives no figure. */
  run(cluster: Cluster): Promise<readonly Figure[]>;
}
