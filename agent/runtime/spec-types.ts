// The part of the OCI runtime specification that we write, in its own names.

export interface SpecMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

export interface SpecUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids?: readonly number[];
}

export interface SpecCapabilities {
  readonly bounding: readonly string[];
  readonly effective: readonly string[];
  readonly permitted: readonly string[];
  readonly inheritable: readonly string[];
  readonly ambient: readonly string[];
}

export interface SpecProcess {
  readonly terminal: boolean;
  readonly user: SpecUser;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly capabilities: SpecCapabilities;
  readonly rlimits: readonly {
    readonly type: string;
    readonly hard: number;
    readonly soft: number;
  }[];
  readonly noNewPrivileges: boolean;
  readonly apparmorProfile?: string;
  readonly oomScoreAdj?: number;
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly {
    readonly index: number;
    readonly value: number;
    readonly valueTwo?: number;
    readonly op: string;
  }[];
}

export interface SpecSeccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

export interface SpecDevice {
  readonly allow: boolean;
  readonly type?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly access: string;
}

/** A device node to make in the container. */
export interface SpecDeviceNode {
  readonly path: string;
  readonly type: "b" | "c" | "p";
  readonly major: number;
  readonly minor: number;
  readonly fileMode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface SpecResources {
  readonly devices: readonly SpecDevice[];
  readonly memory?: {
    readonly limit?: number;
    readonly reservation?: number;
    readonly swap?: number;
    readonly swappiness?: number;
    readonly disableOOMKiller?: boolean;
  };
  readonly cpu?: {
    readonly quota?: number;
    readonly period?: number;
    readonly shares?: number;
    readonly cpus?: string;
    readonly mems?: string;
  };
  readonly pids?: { readonly limit: number };
  readonly blockIO?: BlockIo;
}

interface BlockDevice {
  readonly major: number;
  readonly minor: number;
}

type Throttle = readonly (BlockDevice & { readonly rate: number })[];

/** Shares of a disk's time, and bytes or operations a second, by device. */
export interface BlockIo {
  readonly weight?: number;
  readonly weightDevice?: readonly (BlockDevice & { readonly weight: number })[];
  readonly throttleReadBpsDevice?: Throttle;
  readonly throttleWriteBpsDevice?: Throttle;
  readonly throttleReadIOPSDevice?: Throttle;
  readonly throttleWriteIOPSDevice?: Throttle;
}

export interface RuntimeSpec {
  readonly ociVersion: string;
  readonly process: SpecProcess;
  readonly root: { readonly path: string; readonly readonly: boolean };
  readonly hostname?: string;
  readonly mounts: readonly SpecMount[];
  readonly linux: {
    readonly cgroupsPath: string;
    readonly namespaces: readonly { readonly type: string; readonly path?: string }[];
    readonly resources: SpecResources;
    readonly devices?: readonly SpecDeviceNode[];
    readonly sysctl: Readonly<Record<string, string>>;
    readonly rootfsPropagation?: string;
    readonly seccomp?: SpecSeccomp | Readonly<Record<string, unknown>>;
    readonly maskedPaths: readonly string[];
    readonly readonlyPaths: readonly string[];
  };
}
