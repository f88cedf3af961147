#!/bin/sh
# Says why software for the machine $1 cannot be put here, and ends with 1; it changes nothing. MACHINE is for tests.
set -eu
machine=${MACHINE-$(uname -m)}

[ "$machine" = "$1" ] || {
    echo "the declared files are for $1, and this is $machine: an Atlas 500 is aarch64" >&2
    exit 1
}
