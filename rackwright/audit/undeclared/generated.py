"""Files that no package lists and that belong on a host all the same, each with the program that makes it.

A pattern names files, never all files of a directory of /etc. The probe compares the whole content of those that
programs write from packaged files, and names them in the facts. Here are the others.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Check = Literal["data", "rule", "link", "unjudged"]


@dataclass(frozen=True)
class KnownFile:
    """Files that a known program makes."""

    pattern: str
    """Regular expression of the whole path."""
    program: str
    reason: str
    check: Check = "data"
    """``data``: no program executes or trusts the content. ``rule``: another rule or a claim judges the content.
    ``link``: only a link to one of *targets*. ``unjudged``: nothing judges the content, for the reason given there.
    """
    targets: str = ""
    """Regular expression of the targets of a link, which are absolute and have no ``..``; a file may be there as well
    if *check* is not ``link``."""


def _data(program: str, reason: str, *patterns: str) -> tuple[KnownFile, ...]:
    return tuple(KnownFile(pattern, program, reason) for pattern in patterns)


def _rule(program: str, reason: str, *patterns: str, targets: str = "") -> tuple[KnownFile, ...]:
    return tuple(KnownFile(pattern, program, reason, "rule", targets) for pattern in patterns)


def _not_judged(program: str, reason: str, *patterns: str) -> tuple[KnownFile, ...]:
    return tuple(KnownFile(pattern, program, reason, "unjudged") for pattern in patterns)


def _link(program: str, reason: str, targets: str, *patterns: str) -> tuple[KnownFile, ...]:
    return tuple(KnownFile(pattern, program, reason, "link", targets) for pattern in patterns)


UNIT = r"[\w:.\\@-]+\.(service|socket|target|timer|path|mount|automount|slice|swap)"
UNIT_FILE = rf"(/usr/local)?(/usr)?/lib/systemd/(system|user)/{UNIT}|/etc/systemd/(system|user)/{UNIT}"
"""Units in the directories whose files are in the account."""
CLUSTER_FILES = re.compile(
    r"/etc/kubernetes/manifests/(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)\.yaml"
    r"|/etc/kubernetes/(admin|super-admin|kubelet|bootstrap-kubelet|controller-manager|scheduler)\.conf"
    r"|/etc/kubernetes/pki/(ca|front-proxy-ca|etcd/ca)\.(crt|key|srl)"
    r"|/etc/kubernetes/pki/(apiserver|apiserver-kubelet-client|apiserver-etcd-client|front-proxy-client)\.(crt|key)"
    r"|/etc/kubernetes/pki/etcd/(server|peer|healthcheck-client)\.(crt|key)"
    r"|/etc/kubernetes/pki/sa\.(key|pub)|/etc/kubernetes/tmp/kubeadm-[\w.-]+(/[\w.-]+)*"
)
"""Files that kubeadm writes on a node, by name. The probe compares static pods, certificates and settings of clients;
nothing judges the content of keys. Source: kubeadm implementation details."""
KNOWN_FILES = (
    *_rule(
        "passwd",
        "accounts, groups and passwords are rows of the rules about accounts",
        r"/etc/(passwd|group|shadow|gshadow)",
    ),
    *_data("passwd", "the former accounts, which no login reads", r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-"),
    *_data("passwd", "an empty file for locks", r"/etc/\.pwd\.lock"),
    *_data("systemd-update-done", "a time", r"/etc/\.updated"),
    *_rule("mount", "the mounts are claims, or rows of RW-014", r"/etc/fstab"),
    *_rule("cryptsetup", "the mappings are claims, or rows of RW-012", r"/etc/crypttab"),
    *_rule(
        "resolvconf, systemd-resolved or a DHCP client",
        "the resolvers are claims",
        r"/etc/resolv\.conf",
        targets=r"/run/(systemd/resolve/(stub-)?resolv\.conf|(NetworkManager|resolvconf|connman)/resolv\.conf)",
    ),
    *_rule("ssh-keygen", "the identity of this host", r"/etc/ssh/ssh_host_(rsa|ecdsa|ed25519)_key(\.pub)?"),
    *_not_judged(
        "systemd-hwdb",
        "an index of packaged files and of those that RW-036 judges; rules of udev read its properties",
        r"/etc/udev/hwdb\.bin",
        r"/usr/lib/udev/hwdb\.bin",
    ),
    *_not_judged("update-mime", "an index; mail programs of persons start its commands", r"/etc/mailcap"),
    *_data(
        "install-sgmlcatalog, update-xmlcatalog",
        "places of packaged definitions of documents",
        r"/etc/xml/[\w.-]+\.xml(\.old)?",
        r"/etc/xml/catalog(\.old)?",
    ),
    *_data(
        "console-setup",
        "keys and letters of the console; its scripts are compared",
        r"/etc/console-setup/cached_[\w.-]+\.gz",
    ),
    *_not_judged(
        "ssl-cert",
        "a key and a certificate of this host; programs that read the directory of authorities trust the certificate",
        r"/etc/ssl/(certs|private)/ssl-cert-snakeoil\.(pem|key)",
    ),
    *_not_judged(
        "postgresql-common",
        "a text in the place of authorities of clients; servers of role postgresql trust none",
        r"/etc/postgresql-common/root\.crt",
    ),
    *_data("augenrules", "the former rules, which no program reads", r"/etc/audit/audit\.rules\.prev"),
    *_rule("apt", "the archives in it are rows of RW-002", r"/etc/apt/sources\.list"),
    *_data("chronyd", "numbers of the clock", r"/etc/chrony/chrony\.drift"),
    *_link("tzdata", "the time zone", r"/usr/share/zoneinfo/.+", r"/etc/localtime"),
    *_link("libc", "the mounts of the process", r"/proc/(self/)?mounts", r"/etc/mtab"),
    *_link("base-files", "the distribution's name", r"/etc/dpkg/origins/[\w-]+", r"/etc/dpkg/origins/default"),
    *_link("runit-helper", "a packaged service of runit", r"/etc/sv/[\w.-]+", r"/etc/runit/runsvdir/default/[\w.-]+"),
    *_link(
        "update-rc.d",
        "a packaged script",
        r"/etc/init\.d/[\w.+-]+",
        r"/etc/rc[0-6S]\.d/[SK]\d\d[\w.-]+",
    ),
    *_link(
        "update-ca-certificates",
        "a packaged authority, or one that RW-065 judges",
        r"/usr/(local/)?share/ca-certificates/.+\.crt|/etc/ssl/certs/(?!ssl-cert-snakeoil)[^/]+\.pem",
        r"/etc/ssl/certs/[^/]+\.pem",
        r"/etc/ssl/certs/[0-9a-f]{8}\.\d",
    ),
    *_link(
        "fontconfig",
        "a packaged setting",
        r"/usr/share/fontconfig/conf\.avail/[\w.-]+\.conf|/etc/fonts/conf\.avail/[\w.-]+\.conf",
        r"/etc/fonts/conf\.d/\d\d-[\w.-]+\.conf",
    ),
    *_link(
        "javascript-common",
        "a packaged setting of a web server, which packages of Prometheus bring",
        r"/etc/lighttpd/conf-available/90-javascript-alias\.conf",
        r"/etc/lighttpd/conf-enabled/90-javascript-alias\.conf",
    ),
    *_link("base-files", "for old programs", r"/usr/local/share/man|/var/mail", r"/usr/local/man", r"/var/spool/mail"),
    *_data(
        "depmod",
        "names of modules, which are rows once they are loaded; the index of their paths is compared",
        r"/usr/lib/modules/[\w.+-]+/modules\.((builtin\.)?alias|builtin|dep|devname|softdep|symbols|weakdep)",
        r"/usr/lib/modules/[\w.+-]+/modules\.((builtin\.)?alias|builtin|symbols|weakdep)\.bin",
    ),
    *_not_judged(
        "dkms",
        "a module that the host compiles; facts have its name and version, and a kernel with signatures its signature",
        r"/usr/lib/modules/[\w.+-]+/updates/dkms/[\w-]+\.ko(\.xz)?",
    ),
    *_data("install-info", "titles of manuals", r"/usr/share/info/dir(\.old)?"),
    *_data("update-mime-database", "names of types of files", r"/usr/share/mime/[\w.-]+(/[\w.+-]+\.xml)?"),
    *_data("glib-compile-schemas", "defaults of desktops", r"/usr/share/glib-2\.0/schemas/gschemas\.compiled"),
    *_data("gtk-update-icon-cache", "pictures", r"/usr/share/icons/[\w.+-]+/icon-theme\.cache"),
    *_data("update-desktop-database", "names of types of files", r"/usr/share/applications/mimeinfo\.cache"),
    *_data(
        "localedef",
        "letters and formats; locales are claims",
        r"/usr/lib/locale/locale-archive",
        r"/usr/lib/locale/[\w.@-]+",
        r"/usr/lib/locale/[\w.@-]+/(LC_[A-Z]+|LC_MESSAGES/SYS_LC_MESSAGES)",
    ),
    *_not_judged(
        "update-initramfs",
        "an archive of packaged files and of those that RW-036 judges; the probe does not unpack it",
        r"/boot/initrd\.img-[\w.+~-]+",
    ),
    *_link(
        "linux-update-symlinks",
        "a packaged kernel, or its initramfs",
        r"/boot/(vmlinuz|initrd\.img)-[\w.+~-]+",
        r"/boot/(vmlinuz|initrd\.img)(\.old)?",
    ),
    *_not_judged(
        "grub-install, update-grub",
        "a program for GRUB from packaged scripts; the parameters in its settings are rows of RW-041",
        r"/boot/grub/grub\.cfg",
        r"/boot/grub/(i386-pc|x86_64-efi|arm64-efi)/(boot\.img|core\.(img|efi)|grub\.efi|load\.cfg)",
    ),
    *_data("grub-install", "names of drives and of graphics", r"/boot/grub/(device\.map|gfxblacklist\.txt)"),
    *_not_judged("the firmware", "another filesystem, which the probe does not read", r"/boot/efi"),
    *_rule("crontab", "the commands are rows of RW-034", r"/var/spool/cron/crontabs/[^/]+"),
    *_rule("at", "the jobs are rows of RW-035", r"/var/spool/cron/at(jobs|spool)/[^/]+"),
    *_data("anacron", "times of its last runs", r"/var/spool/anacron/cron\.(daily|weekly|monthly)"),
    *_data(
        "postfix, exim4",
        "mail that waits; the files of the system in the chroot of postfix are compared",
        r"/var/spool/postfix/(active|bounce|corrupt|defer|deferred|flush|hold|incoming|maildrop|saved|trace)(/.+)?",
        r"/var/spool/postfix/(pid|private|public|dev)(/.+)?",
        r"/var/spool/exim4/(db|gnutls-params[\w-]*|input|msglog)(/.+)?",
    ),
    *_data("rsyslog", "lines that wait", r"/var/spool/rsyslog/.+"),
    *_link(
        "netplan",
        "a unit that is compared",
        r"/run/systemd/system/netplan-ovs-cleanup\.service",
        r"/run/systemd/system/systemd-networkd\.service\.wants/netplan-ovs-cleanup\.service",
    ),
    *_link("nginx", "a packaged site", r"/etc/nginx/sites-available/default", r"/etc/nginx/sites-enabled/default"),
    *_link(
        "nginx",
        "a packaged module",
        r"/usr/share/nginx/modules-available/mod-[\w-]+\.conf",
        # nginx-common renames the link of a module whose package has gone
        r"/etc/nginx/modules-enabled/\d\d-mod-[\w-]+\.conf(\.removed)?",
    ),
    *_data("sysvinit", "numbers of processes that outlive the others", r"/run/sendsigs\.omit\.d/[\w.-]+"),
)  # fmt: skip
WHOLE = re.compile("|".join(f"(?P<e{number}>{entry.pattern})" for number, entry in enumerate(KNOWN_FILES)))
"""All patterns at once: an audit asks for hundreds of files of thousands of hosts."""
PRIVILEGES = {
    "/etc/shadow": ("0640", "root:shadow"),
    "/etc/shadow-": ("0640", "root:shadow"),
    "/etc/gshadow": ("0640", "root:shadow"),
    "/etc/gshadow-": ("0640", "root:shadow"),
    "/etc/chrony/chrony.keys": ("0640", "root:_chrony"),
    "/etc/postgresql": ("0755", "postgres:postgres"),
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
USUAL_RIGHTS = {**PRIVILEGES, **dict.fromkeys(("/etc/sudoers", "/etc/sudoers.d/README"), ("0440", "root:root"))}
"""Mode and owner of packaged files that not all accounts can read, as packages give them. A later change of such a
file, as by an editor that writes nothing, looks like a loss of rights."""
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


def may_link_to(entry: KnownFile, target: str) -> bool:
    """Return whether a link of the files of *entry* may lead to *target*, an absolute path without ``..``."""
    return re.fullmatch(entry.targets, target) is not None if entry.targets else False
