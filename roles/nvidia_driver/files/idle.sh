#!/bin/sh
# Says which programs have a GPU open, and ends with 1 if any has; those of the driver itself are stopped for it.
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

for process in $(find /proc/[0-9]*/fd -lname '/dev/nvidia[0-9]*' 2>/dev/null | cut -d / -f 3 | sort -un); do
    name=$(cat "/proc/$process/comm" 2>/dev/null) || continue # it has ended since the list was read
    case $name in
    nvidia-persiste*) ;;
    rackwright-gpu-*) ;; # looks at the GPUs for a moment, again and again
    *)
        echo "process $process ($name) has a GPU open: the driver is not changed under it; end it, and run this again" >&2
        exit 1
        ;;
    esac
done
