#!/bin/sh
# What DKMS cannot: build a module while the package that brings it is not installed yet, and take over what was built.
#
#   dkms.sh kernels RELEASE                       print RELEASE, the newest kernel and the one that runs, where installed
#   dkms.sh lacking NAME VERSION KERNEL…          print the kernels whose module is not this one, or not the only one
#   dkms.sh build NAME VERSION PACKAGE KERNEL…    build what is lacking from the .deb PACKAGE, beside what is installed
#   dkms.sh install NAME VERSION KERNEL…          let the kernels have what was built; what else they have goes aside
#
# NAME is DKMS's name of the module, whose file it is, too: nvidia-current.
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

beside=/var/lib/rackwright/nvidia_driver
machine=$(uname -m)

# Files of modules that call themselves nvidia or nvidia_…, whatever their files are called.
modules() {
    find "/lib/modules/$1" -path "/lib/modules/$1/kernel" -prune -o -name '*.ko*' -type f -print 2>/dev/null |
        while read -r file; do
            case $(modinfo -F name "$file" 2>/dev/null) in nvidia | nvidia_*) echo "$file" ;; esac
        done
}

ours() { case $1 in "/lib/modules/$2/updates/dkms/$name.ko"* | "/lib/modules/$2/updates/dkms/$name-"[a-z]*.ko*) ;; *) return 1 ;; esac; }

# Whether a kernel has the module in this version, by DKMS, and no second.
has() {
    [ -e "/var/lib/dkms/$name/kernel-$1-$machine" ] || return 1
    [ "$(readlink "/var/lib/dkms/$name/kernel-$1-$machine")" = "$version/$1/$machine" ] || return 1
    found=''
    for file in $(modules "$1"); do
        ours "$file" "$1" && [ "$(modinfo -F version "$file")" = "$version" ] || return 1
        found=1
    done
    [ -n "$found" ]
}

# Whether DKMS has built it for a kernel, installed or not.
built() { [ "$(modinfo -F version "$1/$name/$version/$2/$machine/module/$name.ko"* 2>/dev/null)" = "$version" ]; }

verb=$1
shift
if [ "$verb" = kernels ]; then
    running=$(uname -r)
    newest=$(find /boot -maxdepth 1 -name 'vmlinuz-*' | sed 's/.*vmlinuz-//' | sort -V | tail -n 1)
    {
        echo "$1"
        [ -z "$newest" ] || echo "$newest"
        [ ! -e "/boot/vmlinuz-$running" ] || echo "$running"
    } | sort -u
    exit
fi

name=$1 version=$2
shift 2
case $verb in
lacking)
    for kernel; do has "$kernel" || echo "$kernel"; done
    ;;
build)
    package=$1
    shift
    rm -rf "$beside"
    mkdir -p "$beside/dkms"
    for kernel; do
        if has "$kernel" || built /var/lib/dkms "$kernel"; then continue; fi
        if [ ! -d "$beside/files" ]; then
            dpkg-deb -x "$package" "$beside/files"
            dkms add --sourcetree "$beside/files/usr/src" --dkmstree "$beside/dkms" -m "$name" -v "$version" >/dev/null
        fi
        if ! dkms build --sourcetree "$beside/files/usr/src" --dkmstree "$beside/dkms" -m "$name" -v "$version" \
            -k "$kernel" >"$beside/log" 2>&1; then
            log=$beside/dkms/$name/$version/build/make.log
            [ -e "$log" ] || log=$beside/log
            message=$(grep -m 1 -E '(^|[[:space:]])(error|Error)[: ]' "$log" || tail -n 1 "$log")
            mv "$log" /var/log/rackwright-nvidia_driver.log
            rm -rf "$beside"
            echo "$name $version does not build for $kernel: $message (all of it: /var/log/rackwright-nvidia_driver.log)" >&2
            exit 1
        fi
        echo "built for $kernel"
    done
    ;;
install)
    [ -e "/var/lib/dkms/$name/$version/source" ] || dkms add -m "$name" -v "$version"
    for kernel; do
        if has "$kernel"; then continue; fi
        for file in $(modules "$kernel"); do
            if ours "$file" "$kernel"; then
                rm "$file"
            else
                mkdir -p "/var/lib/rackwright/aside${file%/*}"
                mv -f "$file" "/var/lib/rackwright/aside$file"
            fi
        done
        rm -f "/var/lib/dkms/$name/kernel-$kernel-$machine"
        if built "$beside/dkms" "$kernel"; then
            rm -rf "/var/lib/dkms/$name/$version/$kernel"
            mv "$beside/dkms/$name/$version/$kernel" "/var/lib/dkms/$name/$version/"
        fi
        dkms install -m "$name" -v "$version" -k "$kernel"
    done
    rm -rf "$beside"
    ;;
esac
