#!/bin/sh
# Makes what a virtual machine boots from out of a Debian root: assemble.sh ROOT.tar DIRECTORY > BOOT.tar
# It unpacks under DIRECTORY; BOOT.tar holds root.img, vmlinuz, initrd and manifest.
# Runs as root or as root of a user namespace. Tools come from the guest where it has them.
set -eu
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d -p "$2")
trap 'rm -rf "$work"' EXIT
root=$work/root
out=$work/out
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin

mkdir "$root" "$out"
tar -x -p --numeric-owner --xattrs --xattrs-include='*' -C "$root" --exclude='./dev/*' -f "$1"
"$here/../system.sh" "$root"

# --- the kernel, and an initrd that finds the root and no more
kernel=$(ls "$root/usr/lib/modules")
cp "$root/boot/vmlinuz-$kernel" "$out/vmlinuz"
initrd=$work/initrd
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/proc" "$initrd/sys" "$initrd/root" "$initrd/modules"
cp "$root/bin/busybox" "$initrd/bin/busybox"
cp "$here/init" "$initrd/init"
chmod 0755 "$initrd/init"
for module in virtio_pci virtio_blk ext4 qemu_fw_cfg; do
    chroot "$root" modprobe --set-version "$kernel" --show-depends "$module"
done > "$work/depends"
sed -n 's/^insmod \([^ ]*\).*/\1/p' "$work/depends" | awk '!seen[$0]++' | while read -r path; do
    cp "$root$path" "$initrd/modules/"
    basename "$path"
done > "$initrd/modules/order"
grep -q virtio_blk "$initrd/modules/order" # an initrd without drivers would only fail at the first boot
mkdir "$root/initrd"
cp -R "$initrd/." "$root/initrd/"
chroot "$root" sh -c 'cd /initrd && find . | cpio --create --format=newc --quiet' > "$out/initrd"
rm -rf "$root/initrd"

# --- the disk
chroot "$root" dpkg-query --show > "$out/manifest"
truncate -s 4G "$out/root.img"
mke2fs -q -F -t ext4 -L root -O ^metadata_csum -d "$root" "$out/root.img" >&2
tar -c -S -C "$out" root.img vmlinuz initrd manifest
