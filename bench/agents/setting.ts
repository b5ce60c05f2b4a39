// What the process of the simulated agents is told and tells.

export interface SimulatedAgent {
  /** The node's id. */
  readonly id: string;
  readonly certificate: string;
}

export interface FakeAgentsSetting {
  readonly clusterId: string;
  readonly rootCA: string;
  /** One for all of them; each has a certificate of its own. */
  readonly key: string;
  /** host:port of the managers. */
  readonly addresses: readonly string[];
  readonly agents: readonly SimulatedAgent[];
}

export interface Report {
  /** Agents with a session. */
  readonly open: number;
  readonly running: number;
  /** What this process has used. */
  readonly cpuSeconds: number;
  /** The longest that any of them has heard nothing from its manager. */
  readonly silentMsMax: number;
  /** The longest that this process stood still, in which its agents heard nothing either. */
  readonly loopMsMax: number;
  /** Since one of them was last told something that many are told. */
  readonly quietMs: number;
  /** Sessions that have ended. */
  readonly ended: number;
  /** How often sessions ended, or did not begin, for what reason. */
  readonly whys: Readonly<Record<string, number>>;
  /** How many agents know the endpoint, by the name of a task of a service probe…. */
  readonly heard: Readonly<Record<string, number>>;
}
