#!/bin/sh
# Starts a container: start.sh NAME DISK SYSTEM SEED CGROUP [OPTION OF NSPAWN]…
# It is process 1 of its own process, mount and network namespaces. Its mounts vanish with the last process in them.
# DISK holds the container's changes to the root filesystem SYSTEM; SEED is its identity.
set -eu
name=$1 disk=$2 system=$3 seed=$4 cgroup=$5
shift 5

echo 0 > "/sys/fs/cgroup/$cgroup/cgroup.procs"
mount -t proc proc /proc
mount -t tmpfs -o mode=0755 tmpfs /run # for the notes and locks that systemd-nspawn leaves behind when it is killed
: > /run/kmsg # the container's own kernel log, for a twin's faults, in place of that of this computer
root=/run/root
mkdir "$root"
cd "$disk" # a path in mount's options must not have commas and colons
if [ -d whole ]; then
    mount --bind whole "$root"
else
    mount --bind "$system" "$root"
    mount -t overlay -o "lowerdir=$root,upperdir=changed,workdir=work" overlay "$root"
fi

# First start: write the identity, machine-id last, since its presence marks the identity as complete.
if [ ! -s "$root/etc/machine-id" ]; then
    tar -x -C "$root" -f "$seed" etc home
    tar -x -O -f "$seed" run/twin-machine-id > "$root/etc/machine-id"
fi

# The network namespace already belongs to the container, which may configure it.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn --quiet --boot --directory="$root" --machine="$name" --settings=no \
    --network-namespace-path=/proc/self/ns/net --capability=CAP_NET_ADMIN --register=no --keep-unit \
    --bind=/run/kmsg:/dev/kmsg --link-journal=no --resolv-conf=off --timezone=off --console=read-only "$@"
