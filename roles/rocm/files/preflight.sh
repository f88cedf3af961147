#!/bin/sh
# Says why AMD's driver cannot be put here, and ends with 1; whatever it finds, it changes nothing.
# ROOT, a folder in which all is looked for, and MACHINE are for tests.
set -eu
root=${ROOT-}
machine=${MACHINE-$(uname -m)}

refuse() {
    echo "$1" >&2
    exit 1
}

[ "$machine" = x86_64 ] || refuse "AMD's packages are for x86_64, and this is $machine"
for program in /usr/bin/amdgpu-uninstall /usr/sbin/amdgpu-uninstall; do
    [ ! -e "$root$program" ] || refuse "amdgpu-install put software here that no package owns: run $program, then run this again"
done
