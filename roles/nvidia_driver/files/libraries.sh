#!/bin/sh
# Sets aside libraries of a driver that no package brought, wherever the dynamic linker would find them.
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

ldconfig -vNX 2>/dev/null | sed -n 's/^\(\/[^:]*\):.*/\1/p' | while read -r folder; do
    for file in "$folder"/libcuda.so* "$folder"/libnvidia-*.so.*.*; do
        [ -e "$file" ] || [ -L "$file" ] || continue
        case $(readlink "$file" || true) in /etc/alternatives/*) continue ;; esac
        if dpkg -S "$(readlink -f "$file")" >/dev/null 2>&1; then continue; fi
        mkdir -p "/var/lib/rackwright/aside$folder"
        mv -f "$file" "/var/lib/rackwright/aside$file"
        echo "$file"
    done
done
ldconfig
