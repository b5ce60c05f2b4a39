// What a benchmark has measured: one figure of one run on one side.

export type SideName = "tsswarm" | "docker" | "etcd";

export interface Figure {
  /** What was measured, the same words on both sides. */
  readonly name: string;
  readonly unit: "s" | "ms" | "µs" | "MB" | "%" | "/s" | "Gbit/s" | "agents";
  readonly value: number;
}

export interface Sample extends Figure {
  /** The name that `--only` knows. */
  readonly measurement: string;
  readonly side: SideName;
  /** 1, 2 … */
  readonly round: number;
}

export interface Failure {
  readonly measurement: string;
  readonly side: SideName;
  readonly round: number;
  readonly why: string;
}
