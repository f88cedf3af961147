#!/bin/sh
# Says why Gaudi's driver cannot be put here, and ends with 1; whatever it finds, it changes nothing.
# MACHINE is for tests.
set -eu
machine=${MACHINE-$(uname -m)}

[ "$machine" = x86_64 ] || {
    echo "Intel's packages for Gaudi are for x86_64, and this is $machine" >&2
    exit 1
}
