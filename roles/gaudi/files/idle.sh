#!/bin/sh
# Says which programs have a Gaudi open, and ends with 1 if any has.
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

# since Linux 6.2 they are accelerators among others; before, they had a class of their own
for process in $(find /proc/[0-9]*/fd \( -lname '/dev/accel/accel[0-9]*' -o -lname '/dev/hl[0-9]*' \) 2>/dev/null |
    cut -d / -f 3 | sort -un); do
    name=$(cat "/proc/$process/comm" 2>/dev/null) || continue # it has ended since the list was read
    echo "process $process ($name) has a Gaudi open: the driver is not changed under it; end it, and run this again" >&2
    exit 1
done
