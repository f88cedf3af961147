#!/bin/sh
# Takes another amdgpu-dkms than that of version $1 away, and what DKMS has of others than $2: it keeps a new one from
# being installed. Says what it took. Source: ROCm issues 1315, 1658, 3701
# ROOT, a folder in which the trees are looked for, is for tests.
set -eu
root=${ROOT-}
export LC_ALL=C PATH=$root/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive

there=$(dpkg-query -W -f '${Version}' amdgpu-dkms 2>/dev/null) || there=
if [ -n "$there" ] && [ "$there" != "$1" ]; then
    for process in $(find /proc/[0-9]*/fd -lname /dev/kfd 2>/dev/null | cut -d / -f 3 | sort -un); do
        name=$(cat "/proc/$process/comm" 2>/dev/null) || continue # it has ended since the list was read
        echo "process $process ($name) has /dev/kfd open: the driver is not changed under it; end it, and run this again" >&2
        exit 1
    done
    apt-get -q -y --allow-change-held-packages -o DPkg::Lock::Timeout=600 -o APT::Get::AutomaticRemove=false \
        purge amdgpu-dkms >&2
    echo "amdgpu-dkms $there"
fi
for tree in "$root"/var/lib/dkms/amdgpu/*; do
    [ -d "$tree" ] && [ ! -L "$tree" ] && [ "${tree##*/}" != "$2" ] || continue
    dkms remove "amdgpu/${tree##*/}" --all >&2 || true # it does not take a broken one away
    rm -rf "$tree"
    echo "$tree"
done
