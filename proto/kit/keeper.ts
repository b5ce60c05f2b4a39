// The private socket between the keeper and its children: one JSON object a line, answered in order.
// Its version may differ by one between the two ends: fields are only ever added.

export const keeperProtocol = 1;

/** How long clients may use the answer to a name: names move when tasks do. */
export const nameTtlSeconds = 2;

/** Where systemd's journal listens. */
export const journalSocket = "/run/systemd/journal/socket";

/** Follow a container's output FIFOs into rotated files until `closeLogs`. Opening twice is opening once. */
export interface OpenLogs {
  readonly do: "openLogs";
  readonly container: string;
  /** FIFO paths; absent streams are not followed. With a terminal only stdout carries data. */
  readonly stdout?: string;
  readonly stderr?: string;
  /** Folder of `current.log` and its older siblings, see agent/keeper/README.md for the format. */
  readonly directory: string;
  readonly fileBytesMax: number;
  readonly filesMax: number;
  /** The output is read, and given to who is attached; nothing of it is kept. */
  readonly discards?: boolean;
  /** Older files are kept as gzip. */
  readonly compresses?: boolean;
  /** Stand with every line. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** The output goes to systemd's journal, with these fields, and into no file. */
  readonly journal?: Readonly<Record<string, string>>;
  /** So much may wait for the disk; lines beyond are lost, and the container waits for nothing. Absent: it waits. */
  readonly bufferBytesMax?: number;
}
/** Stop following once what is in the FIFOs has been read. The files stay. */
export interface CloseLogs {
  readonly do: "closeLogs";
  readonly container: string;
}

/**
 * Hands a container's output, as it comes, to one more reader too: through FIFOs that have a reader already. The container
 * waits for a slow one. Ends with the logs, or when the reader goes.
 */
export interface TeeLogs {
  readonly do: "teeLogs";
  readonly container: string;
  readonly stdout?: string;
  readonly stderr?: string;
}

/** Answer DNS at 127.0.0.11 in a container's network namespace. Serving twice is serving once, with the newer settings. */
export interface ServeNames {
  readonly do: "serveNames";
  readonly sandbox: string;
  /** Path of the network namespace. */
  readonly namespace: string;
  /** Ids of the name tables it sees, first match wins. */
  readonly tables: readonly string[];
  /** ip:port of upstream servers for all other names; empty: refuse them. */
  readonly upstream: readonly string[];
  readonly search: readonly string[];
  /** What it alone calls others of its tables, in lower case. */
  readonly aliases?: Readonly<Record<string, string>>;
}
export interface ForgetNames {
  readonly do: "forgetNames";
  readonly sandbox: string;
}
/** Replaces tables. `names` are lower case without a final dot; `null` removes a table. */
export interface SetNames {
  readonly do: "setNames";
  readonly tables: Readonly<Record<string, NameTable | null>>;
}
/** Changes tables that were set before; `null` removes an entry. Refused as a whole when one of the tables is not known. */
export interface ChangeNames {
  readonly do: "changeNames";
  readonly tables: Readonly<Record<string, NameChange>>;
}
export interface NameChange {
  readonly names: Readonly<Record<string, readonly string[] | null>>;
  readonly addresses: Readonly<Record<string, string | null>>;
}
export interface NameTable {
  /** Each name's addresses of both families, answered in random order. */
  readonly names: Readonly<Record<string, readonly string[]>>;
  /** Reverse: address → name. */
  readonly addresses: Readonly<Record<string, string>>;
}

/** Start or stop the manager process on this node. Kept over restarts of the keeper. */
export interface RunManager {
  readonly do: "runManager";
  readonly wanted: boolean;
}
/**
 * A child finds that this machine lacks something it cannot do without. When it says so in its first run, the keeper
 * stops everything and ends with that sentence; for a child that has run before this is refused: it ends and is started again.
 */
export interface CannotRun {
  readonly do: "cannotRun";
  /** One sentence: what is missing and what to do. */
  readonly reason: string;
}
/** Remember these unlock keys, the newest first, in memory only and as long as the keeper runs; at most two. */
export interface HoldKeys {
  readonly do: "holdKeys";
  readonly keys: readonly string[];
}
export interface GetHeldKeys {
  readonly do: "heldKeys";
}
export interface GetStatus {
  readonly do: "status";
}
/** The keeper's own last lines. */
export interface GetOwnLog {
  readonly do: "ownLog";
}

export type KeeperRequest =
  | OpenLogs
  | CloseLogs
  | TeeLogs
  | ServeNames
  | ForgetNames
  | SetNames
  | ChangeNames
  | RunManager
  | CannotRun
  | HoldKeys
  | GetHeldKeys
  | GetStatus
  | GetOwnLog;

export interface KeeperStatus {
  readonly protocol: number;
  readonly version: string;
  readonly children: Readonly<
    Record<string, { readonly pid: number | null; readonly restarts: number }>
  >;
  readonly logs: readonly string[];
  readonly sandboxes: readonly string[];
  /** Digests (`nameDigest`) of what it holds to answer names: "table ID" and "sandbox ID". */
  readonly names?: Readonly<Record<string, string>>;
}

export type KeeperResponse =
  | {
      readonly ok: true;
      readonly status?: KeeperStatus;
      readonly keys?: readonly string[];
      readonly lines?: string;
    }
  | { readonly ok: false; readonly message: string };

/** What the rooms that need the keeper see of it. */
export interface Keeper {
  /** Resolves once the keeper has done it; rejects with `unavailable` when there is no keeper. */
  ask(request: KeeperRequest): Promise<KeeperResponse & { readonly ok: true }>;
  /** Called after the keeper was restarted: what it should hold has to be told again. */
  onReconnect(listener: () => void): void;
}
