"""Rules about the next start: lines of mounts and mappings, extensions, credentials, and the kernel's parameters."""

import re
from collections import Counter
from collections.abc import Collection, Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.boot import MappingLine, MountLine
from rackwright.facts.facts import Facts

OF_SYSTEM = frozenset(
    (
        *("/", "/boot", "/boot/efi", "/efi", "/home", "/opt", "/srv", "/tmp", "/usr", "/var"),  # noqa: S108 - places of mounts, where nothing is written
        *("/var/log", "/var/log/audit", "/var/tmp", "/var/lib", "/var/spool"),  # noqa: S108 - places of mounts, where nothing is written
    )
)
"""Places of mounts that an installer makes."""
DISKS = re.compile(r"(UUID|LABEL|PARTUUID|PARTLABEL)=[\w.:\"-]+|/dev/(disk/by-[a-z-]+/|mapper/)?[\w.:+-]+(/[\w.-]+)?")
LOCAL = frozenset(("auto", "btrfs", "ext2", "ext3", "ext4", "f2fs", "vfat", "xfs", "zfs"))
SWAP_FILES = ("/swapfile", "/swap.img")
"""Swap space that installers of Ubuntu make."""
MEMORY = frozenset(("/tmp", "/dev/shm", "/run/shm", "/var/tmp"))  # noqa: S108 - places of mounts, where nothing is written
"""Places for a filesystem in memory."""
REMOVABLE = re.compile(r"/media/(cdrom|floppy)\d*")
ODD_OPTIONS = re.compile(
    r"r?bind|loop|offset=|x-systemd\.(requires|wants|before|after|requires-mounts-for)|upperdir=|lowerdir="
)
"""Options by which a line does more than to mount a device."""
OF_INSTALLER = re.compile(r"[\w-]+_crypt|dm_crypt-\d+|luks-[0-9a-f-]{36}|cryptswap\d*|swap")
"""Names of the mappings that installers make for a whole system."""
PLAIN_KEYS = ("", "none", "-", "/dev/urandom", "/dev/random")
PLAIN_OPTIONS = re.compile(
    r"luks|discard|swap|initramfs|x-initrd\.attach|plain|tries=\d+|cipher=[\w-]+|size=\d+|offset=\d+|hash=\w+"
    r"|tpm2-device=auto|no-(read|write)-workqueue|nofail|timeout=\d+|"
)
MDADM = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")
ARRAY_LINE = re.compile(r"^\s*ARRAY\s+(\S+)(.*)$", re.MULTILINE | re.IGNORECASE)
UUID = re.compile(r"\bUUID=([0-9a-fA-F:]{32,36})")
INTERFACES = "/etc/network/interfaces"
BOOTED_BY_GRUB = "BOOT_IMAGE="


def lines(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the lines of /etc/fstab and /etc/crypttab that neither an installer writes nor a claim compares."""
    claimed = set(declared.names("mount"))
    mounts = facts.boot.mounts
    counts = Counter(each.where for each in mounts if each.type != "swap")
    for each in mounts:
        if each.where not in claimed and (reason := _oddity(each, counts[each.where] > 1)):
            yield Finding(
                f"mount_line:{each.where}", f"{each.what} as {each.type or 'no type'}: {reason}", "/etc/fstab"
            )
    mappings = {*declared.names("luks"), *declared.names("mapping")}
    for mapping in facts.boot.mappings:
        if mapping.name not in mappings and (reason := _mapping(mapping)):
            yield Finding(f"mapping_line:{mapping.name}", f"{mapping.device}: {reason}", "/etc/crypttab")


def _oddity(line: MountLine, is_double: bool) -> str:
    """Return why a line is none of an installer; empty for a plain one."""
    options = line.options.split(",")
    if is_double:
        return "several lines for one place"
    if odd := [each for each in options if ODD_OPTIONS.match(each)]:
        return f"option {odd[0]}"
    if line.type == "swap":
        return "" if DISKS.fullmatch(line.what) or line.what in SWAP_FILES else "swap space in a file"
    if line.type == "tmpfs":
        return "" if line.where in MEMORY else "a filesystem in memory"
    if REMOVABLE.fullmatch(line.where):
        return "" if "user" in options and line.what.startswith("/dev/") else "another device"
    if line.where not in OF_SYSTEM:
        return "no tier and no installer has this place"
    if line.type not in LOCAL:
        return "no filesystem of a drive"
    return "" if DISKS.fullmatch(line.what) else "no drive"


def _mapping(line: MappingLine) -> str:
    options = line.options.split(",")
    if not OF_INSTALLER.fullmatch(line.name):
        return "no tier and no installer has this mapping"
    if line.key not in PLAIN_KEYS:
        return f"its key is in the file {line.key}"
    if odd := [each for each in options if not PLAIN_OPTIONS.fullmatch(each)]:
        return f"option {odd[0]}"
    return "" if DISKS.fullmatch(line.device) else "no drive"


def additions(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the extensions, credentials, accounts and containers that systemd takes from a directory by itself."""
    for path, each in facts.boot.additions.items():
        if not declared.declares_path(path) and not declared.declares(f"directory:{path}"):
            article = "an" if each.sort[0] in "ae" else "a"
            yield Finding(f"file:{path}", f"{article} {each.sort}, owner {each.owner}")


def parameters(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the parameters in the settings of GRUB that the running kernel does not have."""
    words = facts.kernel_parameters
    settings = facts.grub_parameters()
    if not any(word.startswith(BOOTED_BY_GRUB) for word in words):
        return  # another boot loader, which does not read these settings
    for path, wanted in settings.items():
        for word in wanted:
            if word not in words:
                yield Finding(f"kernel_parameter:{word}", "the running kernel was started without it", path)


def arrays(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the lines of mdadm's settings about arrays that do not run, or that run under another name."""
    names = {array.uuid: array.md_name for array in facts.arrays}
    for path in MDADM:
        text = facts.find("texts", path)
        if declared.declares_path(path) or not isinstance(text, str):
            continue
        for name, rest in ARRAY_LINE.findall(text):
            match = UUID.search(rest)
            uuid = match[1].lower() if match else ""
            own = (names.get(uuid) or "").rpartition(":")[2]
            if name == "<ignore>" or uuid not in names:
                yield Finding(f"array_line:{name}", f"UUID {uuid or 'none'}: no array that runs here", path)
            elif name.startswith("/dev/md/") and own and name[len("/dev/md/") :].rpartition(":")[2] != own:
                yield Finding(f"array_line:{name}", f"UUID {uuid}: the array has the name {own}", path)


def interfaces(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the gateways and name servers in ifupdown's files that the host does not use now."""
    for path, text in facts.table("texts").items():
        if not path.startswith(INTERFACES) or declared.declares_path(path) or not isinstance(text, str):
            continue
        for words in map(str.split, text.split("\n")):
            others = [word for word in words[1:] if word not in _values_in_use(words[0], facts)] if words else []
            if others:
                yield Finding(f"interfaces_line:{words[0]} {others[0]}", "the host does not use it now", path)


def _values_in_use(key: str, facts: Facts) -> Collection[str]:
    """Return the values that the host uses for a setting of ifupdown; everything for another setting."""
    if key == "gateway":
        return {route.gateway for route in facts.routes if route.destination == "default" and route.gateway}
    if key in ("dns-nameserver", "dns-nameservers"):
        return facts.resolvers
    return facts.search_domains if key == "dns-search" else _Everything()


class _Everything(frozenset[str]):
    """A set that has each text."""

    def __contains__(self, item: object) -> bool:
        return True


RULES = (
    Rule(
        "RW-153",
        "Each line of /etc/fstab and /etc/crypttab is one of an installer or of a resource.",
        "lines of mounts",
        "At the next start, such a line mounts another thing over a directory, or keeps the host from starting.",
        f"Remove the line from the file after a look at what it mounts, then run `systemctl daemon-reload`, {ADMIT}",
        "fstab(5); crypttab(5); systemd.mount(5)",
        lines,
        severity="error",
    ),
    Rule(
        "RW-154",
        "systemd takes no extension, credential or account from its directories that nothing declares.",
        "extensions of the system",
        "An extension takes the place of packaged files, a credential that of settings, and such an account logs in.",
        f"Remove it after a look at its content, then run `systemd-sysext refresh`, {ADMIT}",
        "systemd-sysext(8); systemd.exec(5), credentials; nss-systemd(8)",
        additions,
        severity="error",
    ),
    Rule(
        "RW-155",
        "The running kernel has the parameters of its settings.",
        "parameters of the running kernel",
        "A person started it by hand, or the settings changed since: mitigations and the audit may be off.",
        f"Run `update-grub`, then restart the host at a good time, {ADMIT}",
        "bootparam(7); GRUB, Simple configuration handling",
        parameters,
        scope="kernel",
    ),
    Rule(
        "RW-156",
        "Each line about an array in mdadm's settings names an array that runs here, by its own name.",
        "lines about arrays",
        "At the next start, such a line gives an array another name, or lets mdadm start or ignore another one.",
        f"Compare with `mdadm --detail --scan`, correct the line, run `update-initramfs -u`, {ADMIT}",
        "mdadm.conf(5), ARRAY",
        arrays,
        scope="kernel",
    ),
    Rule(
        "RW-157",
        "The gateways and name servers in ifupdown's files are those that the host uses.",
        "lines of ifupdown",
        "At the next start, traffic or names go to another machine than today.",
        f"Correct the line in the file, or run `ifup --force` for the link at a good time, {ADMIT}",
        "interfaces(5); resolvconf(8)",
        interfaces,
    ),
)
