#!/bin/sh
# Runs what of driver ($1: its version, $2: the file), firmware ($3, $4) and toolkit ($5, $6) is not there in its version,
# and says what it ran. ROOT, a folder in which versions are looked for, is for tests.
set -eu
root=${ROOT-}
ascend=$root/usr/local/Ascend
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

installed_version() {
    case $1 in
    toolkit) sed -n 's/^version=//p' "$ascend"/ascend-toolkit/latest/*-linux/ascend_toolkit_install.info 2>/dev/null ;;
    *) sed -n 's/^Version=//p' "$ascend/$1/version.info" 2>/dev/null ;;
    esac | head -n 1
}

idle() {
    for process in $(find /proc/[0-9]*/fd -lname '/dev/davinci[0-9]*' 2>/dev/null | cut -d / -f 3 | sort -un); do
        name=$(cat "/proc/$process/comm" 2>/dev/null) || continue # it has ended since the list was read
        echo "process $process ($name) has an Ascend open: nothing is changed under it; end it, and run this again" >&2
        exit 1
    done
}

bring() {
    [ "$(installed_version "$1")" != "$2" ] || return 0
    case $1 in
    driver) idle && sh "$3" --full --install-for-all --quiet >&2 ;;
    firmware) idle && sh "$3" --full --quiet >&2 ;;
    toolkit) sh "$3" --install --install-for-all --quiet >&2 ;;
    esac
    echo "$1 $2"
}

# Source: Huawei, Driver and Firmware Installation: the driver first where there is none, otherwise the firmware
if [ -e "$ascend/driver/version.info" ]; then
    bring firmware "$3" "$4"
    bring driver "$1" "$2"
else
    bring driver "$1" "$2"
    bring firmware "$3" "$4"
fi
bring toolkit "$5" "$6"
