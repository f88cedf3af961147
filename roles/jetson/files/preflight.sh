#!/bin/sh
# Says why this is no Jetson with L4T of release $1 and power mode $2 (empty: any), and ends with 1; it changes nothing.
# ROOT, a folder in which all is looked for, and MACHINE are for tests.
set -eu
root=${ROOT-}
machine=${MACHINE-$(uname -m)}

refuse() {
    echo "$1" >&2
    exit 1
}

[ "$machine" = aarch64 ] || refuse "a Jetson is aarch64, and this is $machine"
[ -e "$root/etc/nv_tegra_release" ] || refuse "there is no /etc/nv_tegra_release: this host was not flashed with L4T"
there=$(sed -nE '1s/^# R([0-9]+) \(release\), REVISION: ([0-9.]+),.*/\1.\2/p' "$root/etc/nv_tegra_release")
[ "$there" = "$1" ] || refuse "this board has L4T ${there:-of an unknown release}, and $1 is declared: flash it, or declare \
what it has"
[ -z "$2" ] || grep -qE "^< *POWER_MODEL ID=$2 " "$root/etc/nvpmodel.conf" ||
    refuse "this board has no power mode $2: \`grep POWER_MODEL /etc/nvpmodel.conf\` shows those that it has"
