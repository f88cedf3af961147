"""Files that no package lists and that belong on a host all the same, each with the program that makes it.

A pattern names files, never all files of a directory of /etc. The content of those that the probe can check by content
is in the facts; here are the others.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Check = Literal["any", "link"]


@dataclass(frozen=True)
class KnownFile:
    """Files that a known program makes."""

    pattern: str
    """Regular expression of the whole path."""
    program: str
    reason: str
    check: Check = "any"
    """``link``: only a link to a file below /usr or /etc, which is judged by itself."""


def _any(program: str, reason: str, *patterns: str) -> tuple[KnownFile, ...]:
    return tuple(KnownFile(pattern, program, reason) for pattern in patterns)


def _link(program: str, reason: str, *patterns: str) -> tuple[KnownFile, ...]:
    return tuple(KnownFile(pattern, program, reason, "link") for pattern in patterns)


UNIT = r"[\w:.\\@-]+\.(service|socket|target|timer|path|mount|automount|slice|swap)"
KNOWN_FILES = (
    *_any(
        "passwd",
        "accounts, groups and passwords are rows of the rules about accounts",
        r"/etc/(passwd|group|shadow|gshadow)-?",
        r"/etc/(subuid|subgid)-",
        r"/etc/\.pwd\.lock",
    ),
    *_any("systemd", "identity of the installation, read as identity", r"/etc/machine-id"),
    *_any("systemd-update-done", "an empty file with a time", r"/etc/\.updated"),
    *_any("ldconfig", "index of the directories that RW-064 judges", r"/etc/ld\.so\.cache"),
    *_any("mount", "the mounts are claims, or rows of RW-014", r"/etc/fstab"),
    *_any(
        "mdadm",
        "the arrays are claims, or rows of RW-010; its programs run as units and cron jobs, which have rules",
        r"/etc/mdadm/mdadm\.conf",
        r"/etc/default/mdadm",
    ),
    *_any("initramfs-tools", "names of modules, which are rows once they are loaded", r"/etc/initramfs-tools/modules"),
    *_any("cryptsetup", "the mappings are claims, or rows of RW-012", r"/etc/crypttab"),
    *_any("resolvconf, systemd-resolved or a DHCP client", "the resolvers are claims", r"/etc/resolv\.conf"),
    *_any("ssh-keygen", "keys of this host", r"/etc/ssh/ssh_host_(rsa|ecdsa|ed25519)_key(\.pub)?"),
    *_any("systemd-hwdb", "index of packaged files", r"/etc/udev/hwdb\.bin", r"/usr/lib/udev/hwdb\.bin"),
    *_any("nvme-cli", "names of this host", r"/etc/nvme/(hostnqn|hostid)"),
    *_any("open-iscsi", "name of this host", r"/etc/iscsi/initiatorname\.iscsi"),
    *_any("update-mime", "index of packaged files", r"/etc/mailcap"),
    *_any("install-sgmlcatalog, update-xmlcatalog", "index of packaged files", r"/etc/xml/[\w.-]+\.xml(\.old)?"),
    *_any("update-xmlcatalog", "index of packaged files", r"/etc/xml/catalog(\.old)?"),
    *_any("console-setup", "keyboard layout of the installer", r"/etc/console-setup/cached_[\w.-]+"),
    *_any("ca-certificates", "choice among packaged authorities", r"/etc/ca-certificates\.conf"),
    *_any("ca-certificates-java", "the packaged authorities in Java's form", r"/etc/ssl/certs/java/cacerts"),
    *_any("ssl-cert", "a key and a certificate of this host", r"/etc/ssl/(certs|private)/ssl-cert-snakeoil\.(pem|key)"),
    *_any(
        "dpkg, ucf",
        "the other version of a configuration file after an upgrade; no program reads these names",
        r"/etc/.+\.(dpkg-(old|dist|new|bak|remove)|ucf-(old|dist|new))",
    ),
    *_any("augenrules", "the former rules", r"/etc/audit/audit\.rules\.prev"),
    *_any("apt", "the archives in it are rows of RW-002", r"/etc/apt/sources\.list"),
    *_any("the installer", "the network is a claim, or a row of RW-050", r"/etc/network/interfaces"),
    *_any("chronyd", "state of the clock", r"/etc/chrony/chrony\.drift"),
    *_link("tzdata", "the time zone", r"/etc/localtime"),
    *_any("libc", "a link to the mounts of the process", r"/etc/mtab"),
    *_link("base-files", "the distribution's name", r"/etc/dpkg/origins/default"),
    *_link("runit-helper", "a packaged service of runit", r"/etc/runit/runsvdir/default/[\w.-]+"),
    *_link("update-rc.d", "a packaged script of /etc/init.d", r"/etc/rc[0-6S]\.d/[SK]\d\d[\w.-]+"),
    *_link(
        "systemctl enable, deb-systemd-helper",
        "the unit itself is judged; a declared one by its claim",
        rf"/etc/systemd/(system|user)/{UNIT}\.(wants|requires)/{UNIT}",
        rf"/etc/systemd/(system|user)/{UNIT}",
    ),
    *_link(
        "update-ca-certificates",
        "a packaged authority, or one that RW-065 judges",
        r"/etc/ssl/certs/[^/]+\.pem",
        r"/etc/ssl/certs/[0-9a-f]{8}\.\d",
    ),
    *_link("apparmor", "a packaged profile", r"/etc/apparmor\.d/(disable|force-complain)/[\w.-]+"),
    *_link("fontconfig", "a packaged setting", r"/etc/fonts/conf\.d/\d\d-[\w.-]+\.conf"),
    *_link("base-files", "for old programs", r"/usr/local/man", r"/var/spool/mail"),
    *_any("depmod", "index of the modules of a kernel", r"/usr/lib/modules/[\w.+-]+/modules\.[\w.]+"),
    *_any("dkms", "a module, which facts name", r"/usr/lib/modules/[\w.+-]+/updates/dkms/[\w-]+\.ko(\.xz)?"),
    *_any("install-info", "index of packaged files", r"/usr/share/info/dir(\.old)?"),
    *_any("update-mime-database", "index of packaged files", r"/usr/share/mime/[\w.-]+(/[\w.+-]+\.xml)?"),
    *_any("glib-compile-schemas", "index of packaged files", r"/usr/share/glib-2\.0/schemas/gschemas\.compiled"),
    *_any("gtk-update-icon-cache", "index of packaged files", r"/usr/share/icons/[\w.+-]+/icon-theme\.cache"),
    *_any("update-desktop-database", "index of packaged files", r"/usr/share/applications/mimeinfo\.cache"),
    *_any("gdk-pixbuf, gio", "index of packaged files", r"/usr/lib/[\w-]+/g[\w.+/-]+/(loaders|giomodule)\.cache"),
    *_any("iconv", "index of packaged files", r"/usr/lib/[\w-]+/gconv/gconv-modules\.cache"),
    *_any("localedef", "a locale; locales are claims", r"/usr/lib/locale/(locale-archive|[\w.@-]+(/.*)?)"),
    *_any("update-initramfs", "of packaged files and of those that RW-036 judges", r"/boot/initrd\.img-[\w.+~-]+"),
    *_link("linux-update-symlinks", "a packaged kernel", r"/boot/(vmlinuz|initrd\.img)(\.old)?"),
    *_any(
        "grub-install, update-grub",
        "parameters of the kernel are rows of RW-041",
        r"/boot/grub/(grub\.cfg|grubenv|unicode\.pf2|device\.map|gfxblacklist\.txt)",
        r"/boot/grub/(fonts|locale|i386-pc|x86_64-efi|arm64-efi)/[\w.@-]+",
    ),
    *_any("the firmware", "its partition is another filesystem, which the probe does not read", r"/boot/efi"),
    *_any("crontab", "the commands are rows of RW-034", r"/var/spool/cron/crontabs/[^/]+"),
    *_any("at", "the jobs are rows of RW-035", r"/var/spool/cron/at(jobs|spool)/[^/]+"),
    *_any("anacron", "times of its last runs", r"/var/spool/anacron/cron\.(daily|weekly|monthly)"),
    *_any("postfix, exim4", "mail that waits", r"/var/spool/(postfix|exim4)/.+"),
    *_any("rsyslog", "lines that wait", r"/var/spool/rsyslog/.+"),
    *_any(
        "netplan",
        "settings of networkd of the files in /etc/netplan; the links are claims, or rows of RW-051",
        r"/run/systemd/network/10-netplan-[\w.@-]+\.(link|network|netdev)",
        r"/run/udev/rules\.d/90-netplan\.rules",
        r"/run/systemd/generator/netplan\.stamp",
        r"/run/systemd/system/(systemd-networkd\.service\.wants/)?netplan-ovs-cleanup\.service",
    ),
    *_link(
        "systemd's generators",
        "the unit itself is judged",
        rf"/run/systemd/generator(\.early|\.late)?/{UNIT}\.(wants|requires)/{UNIT}",
    ),
    *_any("nvidia-ctk", "devices for containers", r"/etc/cdi/(nvidia|rackwright-jetson)\.(yaml|json)"),
    *_link("nginx", "a packaged site, or a packaged module", r"/etc/nginx/sites-enabled/default"),
    *_link("nginx", "a packaged module", r"/etc/nginx/modules-enabled/\d\d-mod-[\w-]+\.conf"),
    *_any("kmod", "devices of packaged modules", r"/run/tmpfiles\.d/static-nodes\.conf"),
    *_any("sysvinit", "processes that outlive the others", r"/run/sendsigs\.omit\.d/[\w.-]+"),
)  # fmt: skip
WHOLE = re.compile("|".join(f"(?P<e{number}>{entry.pattern})" for number, entry in enumerate(KNOWN_FILES)))
"""All patterns at once: an audit asks for hundreds of files of thousands of hosts."""
PRIVILEGES = {
    "/etc/shadow": ("0640", "root:shadow"),
    "/etc/shadow-": ("0640", "root:shadow"),
    "/etc/gshadow": ("0640", "root:shadow"),
    "/etc/gshadow-": ("0640", "root:shadow"),
    "/etc/chrony/chrony.keys": ("0640", "root:_chrony"),
    "/etc/polkit-1/rules.d": ("0700", "polkitd:root"),
    "/usr/share/polkit-1/rules.d": ("0700", "polkitd:root"),
    "/var/lib/polkit-1": ("0700", "polkitd:root"),
    "/etc/ssl/private": ("0710", "root:ssl-cert"),
    "/etc/ssl/private/ssl-cert-snakeoil.key": ("0640", "root:ssl-cert"),
    "/etc/ppp/peers": ("2750", "root:dip"),
    "/etc/chatscripts": ("2750", "root:dip"),
    "/usr/bin/at": ("6755", "daemon:daemon"),
    "/usr/bin/bsd-write": ("2755", "root:tty"),
    "/usr/bin/chage": ("2755", "root:shadow"),
    "/usr/bin/chfn": ("4755", "root:root"),
    "/usr/bin/chsh": ("4755", "root:root"),
    "/usr/bin/crontab": ("2755", "root:crontab"),
    "/usr/bin/dotlockfile": ("2755", "root:mail"),
    "/usr/bin/expiry": ("2755", "root:shadow"),
    "/usr/bin/fusermount3": ("4755", "root:root"),
    "/usr/bin/gpasswd": ("4755", "root:root"),
    "/usr/bin/mount": ("4755", "root:root"),
    "/usr/bin/newgidmap": ("4755", "root:root"),
    "/usr/bin/newgrp": ("4755", "root:root"),
    "/usr/bin/newuidmap": ("4755", "root:root"),
    "/usr/bin/ntfs-3g": ("4755", "root:root"),
    "/usr/bin/nvidia-modprobe": ("4755", "root:root"),
    "/usr/bin/passwd": ("4755", "root:root"),
    "/usr/bin/pkexec": ("4755", "root:root"),
    "/usr/bin/ssh-agent": ("2755", "root:_ssh"),
    "/usr/bin/su": ("4755", "root:root"),
    "/usr/bin/sudo": ("4755", "root:root"),
    "/usr/bin/umount": ("4755", "root:root"),
    "/usr/bin/wall": ("2755", "root:tty"),
    "/usr/bin/write.ul": ("2755", "root:tty"),
    "/usr/lib/dbus-1.0/dbus-daemon-launch-helper": ("4754", "root:messagebus"),
    "/usr/lib/openssh/ssh-keysign": ("4755", "root:root"),
    "/usr/lib/polkit-1/polkit-agent-helper-1": ("4755", "root:root"),
    "/usr/lib/xorg/Xorg.wrap": ("6755", "root:root"),
    "/usr/lib/x86_64-linux-gnu/utempter/utempter": ("2755", "root:utmp"),
    "/usr/lib/aarch64-linux-gnu/utempter/utempter": ("2755", "root:utmp"),
    "/usr/sbin/exim4": ("4755", "root:root"),
    "/usr/sbin/mount.cifs": ("4755", "root:root"),
    "/usr/sbin/mount.nfs": ("4755", "root:root"),
    "/usr/sbin/postdrop": ("2555", "root:postdrop"),
    "/usr/sbin/postqueue": ("2555", "root:postdrop"),
    "/usr/sbin/pppd": ("4754", "root:dip"),
    "/usr/sbin/unix_chkpwd": ("2755", "root:shadow"),
    "/var/spool/cron/atjobs": ("1770", "daemon:daemon"),
    "/var/spool/cron/atspool": ("1770", "daemon:daemon"),
    "/var/spool/cron/crontabs": ("1730", "root:crontab"),
}
"""Mode and owner that packages of Debian give to files and directories, by path. Source: their postinst scripts."""
CAPABILITIES = {
    "/usr/bin/ping": "cap_net_raw",
    "/usr/bin/mtr-packet": "cap_net_raw",
    "/usr/bin/dumpcap": "cap_net_admin,cap_net_raw",
    "/usr/lib/x86_64-linux-gnu/gstreamer1.0/gstreamer-1.0/gst-ptp-helper": "cap_net_bind_service,cap_net_admin",
}
"""Capabilities that packages of Debian give to programs. Source: their postinst scripts."""


@lru_cache(maxsize=1 << 16)
def maker_of(path: str) -> KnownFile | None:
    """Return the entry for *path*; None if no known program makes such a file."""
    match = WHOLE.fullmatch(path)
    name = next((name for name, value in match.groupdict().items() if value is not None), "") if match else ""
    return KNOWN_FILES[int(name[1:])] if name else None
