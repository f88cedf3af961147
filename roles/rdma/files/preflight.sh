#!/bin/sh
# Says why RDMA software of the source $1 cannot be put here, and ends with 1; whatever it finds, it changes nothing.
# ROOT, a folder in which all is looked for, is for tests.
set -eu
root=${ROOT-}

# DOCA and MLNX_OFED bring what takes them away. Source: NVIDIA DOCA, Installation and Upgrade, Uninstalling Software
if [ "$1" = inbox ] && [ -e "$root/usr/sbin/ofed_uninstall.sh" ]; then
    echo "DOCA or MLNX_OFED is here: run /usr/sbin/ofed_uninstall.sh --force, and then this again, or take source: doca" >&2
    exit 1
fi
