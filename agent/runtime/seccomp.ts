// The default system call filter: what ordinary programs need, as Docker allows it; everything else is EPERM.

import type { SeccompRule, SpecSeccomp } from "./spec-types.ts";

const always = `accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek
lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod
mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync
munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open
pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv
preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink
readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename
renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity
sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat
shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair
splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee
tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64
ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4
waitid waitpid write writev process_vm_readv process_vm_writev ptrace`;

/** System calls that come with a capability. */
const withCapability: Readonly<Record<string, string>> = {
  CAP_DAC_READ_SEARCH: "open_by_handle_at",
  CAP_SYS_ADMIN: `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd
setdomainname sethostname setns syslog umount umount2 unshare`,
  CAP_SYS_BOOT: "reboot",
  CAP_SYS_CHROOT: "chroot",
  CAP_SYS_MODULE: "delete_module finit_module init_module",
  CAP_SYS_PACCT: "acct",
  CAP_SYS_PTRACE: "kcmp pidfd_getfd process_madvise",
  CAP_SYS_RAWIO: "iopl ioperm",
  CAP_SYS_TIME: "settimeofday stime clock_settime clock_settime64",
  CAP_SYS_TTY_CONFIG: "vhangup",
  CAP_SYS_NICE: "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
  CAP_SYSLOG: "syslog",
  CAP_BPF: "bpf",
  CAP_PERFMON: "perf_event_open",
};

/** Extra ones by Node's name of the architecture, and the filter's own names for it. */
const machines: Readonly<
  Record<string, { readonly architectures: readonly string[]; readonly names: string }>
> = {
  x64: {
    // Without x32: hardly a kernel is built with it, who calls so is killed, and to compile a filter for it takes runc
    // a quarter of its time for all.
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    names: "arch_prctl modify_ldt",
  },
  arm64: {
    architectures: ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    names: "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
  },
  arm: {
    architectures: ["SCMP_ARCH_ARM"],
    names: "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
  },
  ppc64: { architectures: ["SCMP_ARCH_PPC64LE"], names: "sync_file_range2 swapcontext" },
  s390x: {
    architectures: ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
    names: "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
  },
  riscv64: { architectures: ["SCMP_ARCH_RISCV64"], names: "riscv_flush_icache" },
};

/** Flags of clone that make a namespace; threads and forks use none of them. */
const cloneNamespaceFlags = 0x7e020000;
const enosys = 38;
const eperm = 1;
const vsock = 40;
/** PER_LINUX, PER_LINUX32 with and without UNAME26, and "tell me". */
const personalities = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff];

/** The filter for a container with these capabilities; null where we know nothing about the architecture. */
export function defaultSeccomp(
  architecture: string,
  capabilities: readonly string[],
): SpecSeccomp | null {
  const machine = machines[architecture];
  if (machine === undefined) return null;
  const names = new Set(words(always));
  for (const name of words(machine.names)) names.add(name);
  for (const capability of capabilities)
    for (const name of words(withCapability[capability] ?? "")) names.add(name);
  const syscalls: SeccompRule[] = [
    { names: [...names].sort(), action: "SCMP_ACT_ALLOW" },
    {
      names: ["socket"],
      action: "SCMP_ACT_ALLOW",
      args: [{ index: 0, value: vsock, op: "SCMP_CMP_NE" }],
    },
  ];
  for (const value of personalities)
    syscalls.push({
      names: ["personality"],
      action: "SCMP_ACT_ALLOW",
      args: [{ index: 0, value, op: "SCMP_CMP_EQ" }],
    });
  if (!capabilities.includes("CAP_SYS_ADMIN")) {
    // s390 passes the flags as the second argument.
    const index = architecture === "s390x" ? 1 : 0;
    syscalls.push({
      names: ["clone"],
      action: "SCMP_ACT_ALLOW",
      args: [{ index, value: cloneNamespaceFlags, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }],
    });
    // Its flags are behind a pointer that a filter cannot see: ENOSYS makes the C library fall back to clone.
    syscalls.push({ names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: enosys });
  }
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: eperm,
    architectures: machine.architectures,
    syscalls,
  };
}

/**
 * A profile in the form Docker's documentation describes (`archMap`, `includes`, `excludes`) as the plain one runc reads;
 * any other is returned as it is.
 */
export function adaptSeccomp(
  profile: Readonly<Record<string, unknown>>,
  architecture: string,
  capabilities: readonly string[],
): Readonly<Record<string, unknown>> {
  const { archMap, syscalls, ...rest } = profile;
  if (!Array.isArray(syscalls)) return profile;
  const own = machines[architecture]?.architectures[0];
  const names = dockerArchitectures[architecture] ?? [architecture];
  const mapped = (Array.isArray(archMap) ? (archMap as DockerArchitecture[]) : []).find(
    (entry) => entry.architecture === own,
  );
  const fits = ({ includes, excludes }: DockerRule) =>
    (includes?.caps ?? []).every((name) => capabilities.includes(name)) &&
    !(excludes?.caps ?? []).some((name) => capabilities.includes(name)) &&
    (!includes?.arches?.length || includes.arches.some((name) => names.includes(name))) &&
    !(excludes?.arches ?? []).some((name) => names.includes(name));
  return {
    ...rest,
    ...(mapped === undefined
      ? {}
      : { architectures: [mapped.architecture, ...(mapped.subArchitectures ?? [])] }),
    syscalls: (syscalls as DockerRule[])
      .filter(fits)
      .map(({ includes: _i, excludes: _e, comment: _c, name, ...rule }) =>
        name === undefined || name === "" ? rule : { ...rule, names: [name] },
      ),
  };
}

interface DockerArchitecture {
  readonly architecture: string;
  readonly subArchitectures?: readonly string[] | null;
}
interface DockerFilter {
  readonly caps?: readonly string[];
  readonly arches?: readonly string[];
}
interface DockerRule {
  readonly name?: string;
  readonly names?: readonly string[];
  readonly comment?: string;
  readonly includes?: DockerFilter | null;
  readonly excludes?: DockerFilter | null;
}

const dockerArchitectures: Readonly<Record<string, readonly string[]>> = {
  x64: ["amd64", "x32", "x86"],
  arm64: ["arm64", "arm"],
  ppc64: ["ppc64le"],
  s390x: ["s390", "s390x"],
};

function words(text: string): readonly string[] {
  return text.split(/\s+/).filter((word) => word !== "");
}
