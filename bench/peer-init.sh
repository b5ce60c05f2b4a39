#!/bin/bash
# Pid 1 of a host of the peer: private mounts, then one dockerd. What it needs comes from the environment:
# PEER_HOST (h1 …), PEER_FOLDER (its records, socket and disk), PEER_HOSTS (lines of /etc/hosts), PEER_GROUP (of control groups),
# PEER_REGISTRY (one without TLS).
set -eu

# Until /proc is mounted anew, our number is the one this machine knows us by.
read -r -a mine </proc/self/stat
echo "${mine[0]} ${mine[21]}" >"$PEER_FOLDER/init"
hostname "$PEER_HOST"
ulimit -n "$(ulimit -Hn)"
mount -n -t proc proc /proc

for controller in /sys/fs/cgroup /sys/fs/cgroup/*; do
  [ -e "$controller/cgroup.procs" ] || continue
  mkdir -p "$controller/$PEER_GROUP/$PEER_HOST/daemon"
  if [ -e "$controller/cpuset.cpus" ]; then
    # A new set is empty, and nothing can run in it before it is filled.
    for part in "$PEER_GROUP" "$PEER_GROUP/$PEER_HOST"; do
      for what in cpus mems; do
        [ -n "$(cat "$controller/$part/cpuset.$what")" ] || cat "$controller/cpuset.$what" >"$controller/$part/cpuset.$what"
      done
    done
  else
    echo 0 >"$controller/$PEER_GROUP/$PEER_HOST/daemon/cgroup.procs" || true
  fi
done

# The new /sys belongs to this network namespace; the control groups are bound back onto it.
mkdir -p "$PEER_FOLDER/groups"
mount -n --rbind /sys/fs/cgroup "$PEER_FOLDER/groups"
mount -n -t sysfs sysfs /sys
mount -n --rbind "$PEER_FOLDER/groups" /sys/fs/cgroup
umount -n -R -l "$PEER_FOLDER/groups"

mount -n -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/etc/up /run/etc/work
mount -n -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work /etc
rm -f /etc/hosts /etc/hostname /etc/resolv.conf
echo "$PEER_HOST" >/etc/hostname
printf '127.0.0.1 localhost\n%b' "$PEER_HOSTS" >/etc/hosts
echo "nameserver 127.0.0.1" >/etc/resolv.conf

mkdir -p "$PEER_FOLDER/disk" /var/lib/docker
mount -n --bind "$PEER_FOLDER/disk" /var/lib/docker
mount -n --make-rshared /
cd /

# Images are where they are needed already: no registry is asked.
export DOCKER_SERVICE_PREFER_OFFLINE_IMAGE=1
dockerd --host "unix://$PEER_FOLDER/docker.sock" --storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs \
  --cgroup-parent "/$PEER_GROUP/$PEER_HOST" --default-address-pool base=172.30.0.0/16,size=24 --insecure-registry "$PEER_REGISTRY" \
  >>"$PEER_FOLDER/dockerd.log" 2>&1 </dev/null &
while :; do
  sleep infinity &
  wait $! || true
done
