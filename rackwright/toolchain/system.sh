#!/bin/sh
# Install the system packages that rackwright needs and this computer lacks. This script does not need Python.
#
#     system.sh [LIST]              0: no package is missing any more; 2: a person has to install those in the message
#     system.sh --missing [LIST]    print the missing packages, one on each line, and change nothing
#
# LIST has a package and a file, command or module of it on each line, as in packages.debian.txt.
set -eu

only_print=''
if [ "${1-}" = --missing ]; then
    only_print=1
    shift
fi
list=${1:-$(dirname "$0")/packages.debian.txt}
logs=${RACKWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rackwright}/logs
PATH=$PATH:/usr/sbin:/sbin # a user's PATH may lack these directories, which have commands such as mkfs.ext4

is_installed() {
    case $1 in
    /*) [ -e "$1" ] ;;
    python3:*) python3 -c "import ${1#python3:}" 2>/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

packages='' things=''
while read -r package thing _; do
    case $package in '' | '#'*) continue ;; esac
    is_installed "$thing" || { packages="$packages $package" things="$things $thing"; }
done <"$list"
[ -n "$packages" ] || exit 0
if [ -n "$only_print" ]; then
    # shellcheck disable=SC2086 # a list of packages
    printf '%s\n' $packages
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "rackwright: missing on this computer:$things" >&2
    echo "This system has no apt-get. Install them with your system's package manager, then run this again." >&2
    exit 2
fi

if [ "$(id -u)" = 0 ]; then
    as_root=''
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    as_root=sudo
else
    echo "rackwright: missing on this computer:$packages" >&2
    echo "Only root may install them. Run as root: apt-get install --no-install-recommends$packages" >&2
    exit 2
fi

mkdir -p "$logs"
log=$logs/system.log
apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" >>"$log" 2>&1
}

for package in $packages; do
    echo "installing $package"
done
echo "  (log $log)"
: >"$log"
apt update || echo "  apt could not update the package lists, and uses the present ones"
# shellcheck disable=SC2086 # a list of packages
if ! apt install --no-install-recommends $packages; then
    tail -n 5 "$log" >&2
    echo "rackwright: apt-get could not install$packages (log $log)" >&2
    exit 2
fi
sed -n 's/^Setting up \([^ :]*\).*/\1/p' "$log" | sort -u | tr '\n' ' ' | sed 's/^/  installed, with dependencies: /; s/ *$/\n/'
