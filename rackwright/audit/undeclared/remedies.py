"""Remedies of single findings, where that of the rule would break the host or would not end the finding."""

import re

from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.errors import command

REMEDY_UNKNOWN = "Find out why the probe cannot read it; until an audit can, nothing is known about it"
"""The way to make a rule's facts known: nothing was found, so nothing is removed."""


COPIES = {
    "/etc/inputrc": "/usr/share/readline/inputrc",
    "/etc/motd": "/usr/share/base-files/motd",
    "/etc/nsswitch.conf": "/usr/share/libc-bin/nsswitch.conf",
    "/etc/profile": "/usr/share/base-files/profile",
}
REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"/etc/pam\.d/common-(account|auth|password|session|session-noninteractive)",
        "Run `pam-auth-update --force`, which writes the file again from the profiles of packages; keep a root shell "
        "open until a login works",
    ),
    (
        r"/etc/(inputrc|motd|nsswitch\.conf|profile)",
        "Run `cp {copy} {path}`, which is the packaged version",
    ),
    (
        r"/etc/sub[ug]id",
        "Correct the line with `usermod --del-subuids`, `usermod --del-subgids` and their `--add` counterparts; "
        "containers of the other accounts need the file",
    ),
    (
        r"/etc/mdadm/mdadm\.conf",
        "Compare the file with what `mdadm --detail --scan` prints, correct its lines, then run `update-initramfs -u`: "
        "without the file, arrays may start under other names",
    ),
    (r"/etc/default/mdadm", "Run `dpkg-reconfigure mdadm`, which writes the file again"),
    (r"/etc/hosts", "Correct the lines in the file; without it, the host does not know its own name"),
    (r"/etc/hosts\.(allow|deny)", "Remove the lines from the file, or declare the packet filter that they replace"),
    (r"/etc/(hostname|mailname)", "Write the host's name into the file, as `hostname` prints it"),
    (r"/etc/machine-id", "Write 32 hexadecimal digits into the file with `systemd-machine-id-setup`"),
    (r"/etc/network/interfaces(\.d/.+)?", "Correct the lines in the file; without it, the host may be unreachable"),
    (r"/etc/networks", "Run `apt-get install --reinstall netbase` after the file is moved away"),
    (
        r"/etc/(fstab|crypttab)",
        "Correct the lines in the file, then run `systemctl daemon-reload`; without it, no filesystem is mounted",
    ),
    (r"/etc/adjtime", "Run `hwclock --systohc --utc`, which writes the file again"),
    (r"/etc/(timezone|localtime)", "Run `timedatectl set-timezone` with the declared zone"),
    (r"/etc/environment", "Remove the lines from the file, or declare them"),
    (r"/etc/(default/locale|locale\.gen)", "Run `dpkg-reconfigure locales`, which writes the file again"),
    (r"/etc/shells", "Remove the lines of other shells from the file; logins need it"),
    (r"/etc/ld\.so\.cache", "Run `ldconfig`, which writes the file again"),
    (r"/etc/audit/audit\.rules", "Run `augenrules --load`, which writes the file again"),
    (
        r"/etc/(ca-certificates\.conf|ssl/certs/.+)",
        "Run `update-ca-certificates --fresh`, which writes the files again",
    ),
    (r"/etc/modules|/etc/initramfs-tools/modules", "Remove the lines from the file, then run `update-initramfs -u`"),
    (r"/etc/(iscsi/.+|nvme/host(id|nqn))", "Restore the name that the storage server knows; sessions need it"),
    (r"/etc/python3/debian_config", "Run `apt-get install --reinstall python3-minimal` after the file is moved away"),
    (r"/etc/security/opasswd", "Empty the file; PAM keeps earlier passwords there"),
    (r"/etc/apparmor\.d/local/.+", "Empty the file, then run `apparmor_parser -r` for its profile, which includes it"),
    (r"/etc/cdi/.+", "Run `nvidia-ctk cdi generate`, which writes the specification again"),
    (r"/etc/console-setup/.+", "Run `setupcon --save-only`, which writes the file again"),
    (r"/boot/grub/grubenv", "Run `grub-editenv /boot/grub/grubenv create`, which writes an empty one"),
    (r"/boot/grub/.+", "Run `grub-install` and `update-grub`, which write the files again"),
    (r"/boot/initrd\.img-.+", "Run `update-initramfs -u`, which writes the archive again"),
    (r"/usr/lib/modules/[^/]+/modules\..+", "Run `depmod`, which writes the indexes again"),
    (r"/usr/lib/[\w-]+/gio/modules/giomodule\.cache", "Run `gio-querymodules` for the directory"),
    (r"/usr/lib/[\w-]+/gdk-pixbuf-.+/loaders\.cache", "Run `dpkg-reconfigure libgdk-pixbuf-2.0-0`"),
    (r"/var/spool/postfix/(etc|usr|lib)/.+", "Run `systemctl restart postfix`, which copies the file again"),
    (
        r"/run/systemd/generator.*",
        "Run `systemctl daemon-reload`: the generators then write their units again, and no others stay",
    ),
    (r"/run/systemd/(system/netplan-|network/10-netplan-).+|/run/udev/rules\.d/.+netplan.*", "Run `netplan generate`"),
    (r"/run/tmpfiles\.d/static-nodes\.conf", "Run `kmod static-nodes --format=tmpfiles`, and compare"),
    (
        r"/etc/kubernetes/manifests/.+",
        "Run `kubeadm init phase control-plane all --config /etc/rackwright/kubernetes/kubeadm.yaml`, and for etcd "
        "`kubeadm init phase etcd local` with that option, which write the files again",
    ),
    (
        r"/etc/kubernetes/[\w-]+\.conf",
        "Move the file away, then run `kubeadm init phase kubeconfig all` with the declared configuration; revoke what "
        "another certificate gives",
    ),
    (
        r"/etc/kubernetes/pki/.+",
        "Move the file away, then run `kubeadm init phase certs all` with the declared configuration; keep the keys of "
        "authorities",
    ),
    (
        r"/etc/(passwd|group|shadow|gshadow)",
        "Correct the line with `vipw` or `vigr`, then run `pwck` and `grpck`; no login works without the file",
    ),
)
"""Patterns of paths that a program needs, each with what a person does instead of removing the file."""
BY_PATH = tuple((re.compile(pattern), text) for pattern, text in REMEDIES)


def undo_diversion(path: str) -> str:
    """Return the remedy for a file in the place of a packaged one, which a person has moved away."""
    undo = command("dpkg-divert --rename --remove {}", path)
    return f"Remove the file, then run {undo}, which puts the packaged one back"


def needed_file(path: str) -> str:
    """Return the remedy for a file that the host needs, and that must not be removed; empty for any other."""
    for pattern, text in BY_PATH:
        if pattern.fullmatch(path):
            return text.format(path=path, copy=COPIES.get(path, ""))
    return ""


CHANGED = "it differs from the file of its package"
"""Beginning of the description of a packaged configuration file that a person changed."""
RESTORE = (
    "Restore the packaged file with `apt-get install --reinstall -o Dpkg::Options::=--force-confask` for the package "
    "that `dpkg --search` names"
)
BOTH = re.compile(r"Remove the file or restore the packaged one")
"""Words of a rule that is about both sorts of files: a finding is about one of them."""


def remedy_of(rule: Rule, finding: Finding, is_unknown: bool = False) -> str:
    """Return the advice for *finding*: its own, or that for its file, or that of its rule."""
    if is_unknown:
        return rule.remedy_unknown or REMEDY_UNKNOWN
    if finding.remedy:
        return finding.remedy
    needed = needed_file(finding.path) if rule.remedy.startswith("Remove the file") else ""
    if needed:
        return f"{needed}; {ADMIT}"
    if finding.found.startswith(CHANGED):
        return BOTH.sub(RESTORE, rule.remedy)
    return BOTH.sub("Remove the file", rule.remedy)
