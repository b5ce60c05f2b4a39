#!/bin/bash
# Pid 1 of a machine of the lab: makes what is private to it, then keeps its programs running.
# From the environment: LAB_NAME LAB_KIND (host | switch | outside) LAB_FOLDER LAB_DISK LAB_PROGRAM LAB_NODE LAB_HOSTS.
# Says "booted" on descriptor 3 when the machine is up.
set -eu

# The /proc seen now is still that of the real machine, and so are the numbers in it.
read -r -a stat </proc/self/stat
echo "${stat[0]} ${stat[21]}" >"$LAB_FOLDER/init"

ulimit -n "$(ulimit -Hn)"
hostname "$LAB_NAME"
mount -n -t proc proc /proc

# Out of the control groups of whoever typed the command. A cpuset cannot hold processes before it is filled in.
for mount in /sys/fs/cgroup /sys/fs/cgroup/*; do
  [ -e "$mount/cgroup.procs" ] && [ "${mount##*/}" != cpuset ] || continue
  mkdir -p "$mount/${LAB_FOLDER#/run/}/system"
  echo 0 >"$mount/${LAB_FOLDER#/run/}/system/cgroup.procs" || true
done

# /run is made aside and moved into its place at the end: what it covers is needed until then.
run=$LAB_FOLDER/stage
mkdir -p "$run"
mount -n -t tmpfs -o mode=755 tmpfs "$run"
mkdir -p "$run"/{lock,netns,tsswarm-program,containerd,cgroup,etc/upper,etc/work} "$run/${LAB_FOLDER#/run/}"
mount -n --bind "$LAB_PROGRAM" "$run/tsswarm-program"
mount -n --bind "$LAB_FOLDER" "$run/${LAB_FOLDER#/run/}"

# A new sysfs shows this machine's own links; the control groups have to be carried over it.
mount -n --rbind /sys/fs/cgroup "$run/cgroup"
mount -n -t sysfs sysfs /sys
mount -n --rbind "$run/cgroup" /sys/fs/cgroup
umount -n -R -l "$run/cgroup"
rmdir "$run/cgroup"
# A machine has controllers of version 1 or of version 2: crun refuses a mix of both.
[ ! -e /sys/fs/cgroup/unified ] || umount -n -l /sys/fs/cgroup/unified
mount -n -t securityfs securityfs /sys/kernel/security 2>/dev/null || true

mount -n -t overlay overlay -o "lowerdir=/etc,upperdir=$run/etc/upper,workdir=$run/etc/work" /etc
rm -f /etc/hosts /etc/hostname /etc/resolv.conf
echo "$LAB_NAME" >/etc/hostname
printf '127.0.0.1 localhost\n%b' "$LAB_HOSTS" >/etc/hosts
echo "nameserver 10.77.0.1" >/etc/resolv.conf

mkdir -p "$LAB_DISK/var-lib" "$LAB_DISK/log"
mount -n --bind "$LAB_DISK/log" /var/log
mount -n --bind "$LAB_DISK/var-lib" /var/lib
mount -n --move "$run" /run
# As on a machine run by systemd: what a program mounts is seen by all the others.
mount -n --make-rshared /
cd /

# Runs a program for ever; what it prints goes to its log.
keep() {
  local name=$1
  shift
  while :; do
    "$@" >>"/var/log/$name.log" 2>&1 3>&- </dev/null || true
    sleep 0.3
  done
}

case $LAB_KIND in
host)
  mkdir -p /var/lib/containerd /var/lib/tsswarm
  cat >/run/containerd/config.toml <<'TOML'
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "/run/containerd/containerd.sock"
TOML
  keep containerd containerd --config /run/containerd/config.toml 3>&- &
  for ((i = 0; i < 200; i++)); do
    [ -S /run/containerd/containerd.sock ] && break
    sleep 0.02
  done
  keep daemon "$LAB_NODE" /run/tsswarm-program/dist/cli/main.js daemon \
    --config-file "$LAB_FOLDER/daemon.json" 3>&- &
  ;;
switch)
  mkdir -p /var/lib/registry
  keep registry docker-registry serve "$LAB_FOLDER/registry.yml" 3>&- &
  ;;
outside) ;;
esac

echo booted >&3
exec 3>&-
# Orphans of this machine come to pid 1: bash reaps them while it waits.
while :; do
  sleep infinity &
  wait $! || true
done
