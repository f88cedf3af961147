#!/bin/sh
# Makes a guest of a Debian root: system.sh ROOT. Its files, its user, its services; no trace of where it was made.
# Runs as root or as root of a user namespace.
set -eu
guest=$(dirname "$(readlink -f "$0")")
root=$1
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin

listed() { sed '/^#/d; /^$/d' "$1"; }

cp -R "$guest/files/." "$root/"
chown -R 0:0 "$root/etc/ssh" "$root/etc/sudoers.d" "$root/etc/systemd" "$root/etc/modprobe.d"
# Drop-ins of the image are those of a distribution: in /etc they would be an administrator's, which an audit reports.
chown -R 0:0 "$root/usr/lib/systemd/system/ssh.service.d" "$root/usr/lib/systemd/system/systemd-udev-trigger.service.d"
chmod 0440 "$root/etc/sudoers.d/rackwright"
listed "$guest/masks.txt" | while read -r path; do
    mkdir -p "$root/etc/${path%/*}"
    ln -sf /dev/null "$root/etc/$path"
done
# Installed, and off until a role wants them: each would be paid for at every boot.
chroot "$root" systemctl disable --quiet auditd.service chrony.service unattended-upgrades.service
chroot "$root" systemctl enable --quiet ssh.service systemd-networkd.service
chroot "$root" useradd --create-home --shell /bin/bash --groups sudo rackwright

# The building machine leaves no trace: its mirror, its resolver, its name, keys made on it.
rm -f "$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* "$root"/etc/ssh/ssh_host_*
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/boot/initrd.img-* "$root"/initrd.img*
echo 'nameserver 10.0.2.3' > "$root/etc/resolv.conf"
: > "$root/etc/fstab"
: > "$root/etc/machine-id"
rm -f "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
touch "$root/etc/.updated" "$root/var/.updated"
