"""Files that programs of packages write: each is compared with what the program writes from packaged files.

A check is for the whole content. A file of another form, a link, or a file that others may write passes no check.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from typing import Any, Callable, Iterable

from rackwright.facts.probe import (
    authorities,
    binary_indexes,
    grammars,
    kubeadm_files,
    name_services,
    netplan_files,
    pam_profiles,
    unit_links,
)
from rackwright.facts.probe.host_names import HOSTS, LOOPBACK, names, own_name
from rackwright.facts.probe.observe import ReadError, attempt, listing, read
from rackwright.facts.probe.packaged import conffiles, ucf_digests
from rackwright.facts.probe.sources import FILE_BYTES, System, content, lines

OWNER = (0, 0)
"""Account and group of such a file."""
PLAIN = 0o644
"""Bits of the mode that such a file may have."""
COPIES = {
    "/etc/inputrc": "/usr/share/readline/inputrc",
    "/etc/motd": "/usr/share/base-files/motd",
    name_services.PATH: name_services.PACKAGED,
    "/etc/profile": "/usr/share/base-files/profile",
}
"""Files that the scripts of packages copy from a packaged file, by path."""
COMMENT = r"(#[^\n]*)?"
"""A comment or an empty line, in a file whose programs read nothing from comments."""
TEXTS = {
    "/etc/environment": (
        "",
        'PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/usr/local/games"\n',
        'PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/usr/local/games:/snap/bin"\n',
    ),
    "/etc/networks": tuple(
        f"default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n{end}" for end in ("", "\n")
    ),
    "/etc/python3/debian_config": (
        "[DEFAULT]\n# how to byte-compile (comma separated: standard, optimize)\nbyte-compile = standard\n",
    ),
    "/etc/security/opasswd": ("",),
}
"""Files with the texts that the scripts of packages write. Source: libpam-modules, netbase, python3-minimal."""
LINES = {
    "/etc/adjtime": r"-?\d{1,2}\.\d+ \d+ -?\d(\.\d+)?|\d+|UTC",
    "/etc/default/mdadm": (
        COMMENT + r'|AUTOCHECK=true|AUTOSCAN=true|START_DAEMON=true|DAEMON_OPTIONS="--syslog"|VERBOSE=false'
    ),
    "/etc/hosts.allow": COMMENT,
    "/etc/hosts.deny": COMMENT,
    "/etc/initramfs-tools/modules": COMMENT,
    "/etc/iscsi/initiatorname.iscsi": COMMENT
    + r"|InitiatorName=iqn\.(1993-08\.org\.debian|2004-10\.com\.ubuntu):01:[0-9a-f]{9,12}",
    "/etc/machine-id": r"[0-9a-f]{32}|uninitialized",
    "/etc/mdadm/mdadm.conf": (
        COMMENT
        + r"|DEVICE partitions( containers)?|HOMEHOST <system>|MAILADDR root"
        + r"|CREATE owner=root group=disk mode=0660 auto=yes"
        + r"|ARRAY [\w/<>.:-]+( +(metadata|level|num-devices|spares|UUID|name|container|member)=[\w.:/-]+)+"
    ),
    "/etc/modules": COMMENT,
}
"""Files that installers and the scripts of packages write, each with a pattern that every line matches as a whole."""
NAMES_OF_HOST = {
    "/etc/nvme/hostid": rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n",
    "/etc/nvme/hostnqn": rb"nqn\.[\w.:-]+\n",
}
"""Files with one name of the host, and their forms."""
LOCAL_PROFILE = re.compile(
    rb"(# Site-specific additions and overrides for '?[\w.-]+'?\.?\n"
    rb"(# For more details, please see /etc/apparmor\.d/local/README\.?\n)?)?"
)
"""A file of AppArmor for additions of a person, as packages make it: another comment may be an ``#include``."""
LOCALE_NAME = re.compile(r"(LANG|LC_[A-Z]+)=(\"?)([\w.@-]*)\2|LANGUAGE=(\"?)[a-zA-Z_@:]*\4")
SUPPORTED, ZONES = "/usr/share/i18n/SUPPORTED", "/usr/share/zoneinfo"
BASE_LOCALES = frozenset(("", "C", "C.UTF-8", "C.utf8", "POSIX"))
SHELLS = (
    "/bin/sh",
    "/bin/bash",
    "/bin/rbash",
    "/bin/dash",
    "/usr/bin/sh",
    "/usr/bin/bash",
    "/usr/bin/rbash",
    "/usr/bin/dash",
)
MORE_SHELLS = (
    "/usr/bin/screen",
    "/usr/bin/tmux",
    "/bin/zsh",
    "/usr/bin/zsh",
    "/bin/ksh",
    "/usr/bin/ksh",
    "/usr/bin/fish",
)
"""Shells that packages add to /etc/shells; those of the base system are there in any case."""
RANGE_START, RANGE_SIZE = 100_000, 65_536
"""First id, and number of ids, of the ranges that useradd gives to accounts. Source: login.defs(5), SUB_UID_MIN."""
RULES, MERGED_RULES = "/etc/audit/rules.d", "/etc/audit/audit.rules"
"""Rules of the audit, and the file that augenrules merges them into. Source: augenrules(8)."""
LEFTOVER = re.compile(r"(/etc/.+)\.(dpkg-(old|dist|new|bak|remove)|ucf-(old|dist|new))")
LATEST = ("dpkg-dist", "dpkg-new", "ucf-dist", "ucf-new")
"""Ends of the names of the version of the package."""
BY_NAME = re.compile(
    r"/etc|/etc/(adduser|apt|ca-certificates|chrony|console-setup|debconf|default|fonts|host|iscsi|ld\.so|libaudit|lvm|mdadm"
    r"|nvme|pam|resolvconf|rsyslog|security|selinux|smartmontools|ssh|sysctl|systemd|udev|update-manager)(\.conf)?"
    r"|/etc/(apt/(apt\.conf|preferences|sources\.list)|chrony/(conf|sources)|rsyslog|sysctl|modprobe|modules-load|tmpfiles"
    r"|ld\.so\.conf|ssh/ssh_config|ssh/sshd_config|systemd/(system|journald|logind)\.conf|udev/rules)\.d"
)
"""Directories of whose files programs read those alone whose names they know, or that have an end of their own."""
ALTERNATIVES, CHOSEN = "/var/lib/dpkg/alternatives", "/etc/alternatives"
GRUB = re.compile(
    r"/boot/grub/(?:fonts/([\w.-]+)|(i386-pc|x86_64-efi|arm64-efi)/([\w.-]+)|locale/([\w@]+)\.mo|(unicode\.pf2))"
)
GRUB_VARIABLE = re.compile(rb"(saved_entry|next_entry|prev_saved_entry|recordfail|initrdfail)=[\w.>|, ()-]*")
REASON, REASONS = 200, 200
"""Letters of a reason why a file is not what its program writes, and the number of reasons in the facts."""
GRUB_CHOICE = re.compile(rb"(saved_entry|next_entry|prev_saved_entry)=(?!0?$)")
GRUB_SETTINGS = "/etc/default/grub"
GRUB_BLOCK, GRUB_HEAD = 1024, b"# GRUB Environment Block\n"
MAIL_COPY = re.compile(r"/var/spool/postfix(/(?:etc|usr|lib)/.+)")
"""Files that the chroot of postfix has as copies of the system's."""

Check = Callable[[System, str, bytes], bool]


def is_copy(system: System, path: str, text: bytes) -> bool:
    return system.is_copy(text, COPIES[path])


def is_known_text(system: System, path: str, text: bytes) -> bool:
    return any(text == each.encode() for each in TEXTS[path])


def has_known_lines(system: System, path: str, text: bytes) -> bool:
    """Return whether each line has the form of the file, and no line that is no comment stands there twice."""
    found = [line for line in lines(text) if line and not line.startswith("#")]
    return len({*found}) == len(found) and all(re.fullmatch(LINES[path], line) for line in lines(text))


def is_name_of_host(system: System, path: str, text: bytes) -> bool:
    return re.fullmatch(NAMES_OF_HOST[path], text) is not None


def is_local_profile(system: System, path: str, text: bytes) -> bool:
    return LOCAL_PROFILE.fullmatch(text) is not None


def is_pam(system: System, path: str, text: bytes) -> bool:
    type = path.rpartition("/common-")[2]
    return type in pam_profiles.TYPES and text == pam_profiles.common_file(system.root, type, system.is_packaged)


def is_hostname(system: System, path: str, text: bytes) -> bool:
    return text.decode("ascii") == f"{own_name(system.root)}\n"


def is_mail_name(system: System, path: str, text: bytes) -> bool:
    """Return whether mail goes out with the host's own name, or with the full one that /etc/hosts gives to it."""
    name = own_name(system.root)
    short = name.partition(".")[0]
    found = text.decode("ascii")
    full: set[str] = set()
    for line in lines(content(system.root, HOSTS)) if system.exists(HOSTS) else ():
        address, *others = line.partition("#")[0].split() or [""]
        if LOOPBACK.fullmatch(address) and short in others:
            full.update(each for each in others if each.startswith(f"{short}."))
    return found.endswith("\n") and found[:-1] in {name, short, "localhost", *full}


def is_zone(system: System, path: str, text: bytes) -> bool:
    name = text.decode("ascii")
    is_plain = re.fullmatch(r"[A-Za-z][\w+-]*(/[A-Za-z][\w+-]*)*\n", name) is not None
    return is_plain and os.path.isfile(f"{system.root}{ZONES}/{name[:-1]}")


def is_language(system: System, path: str, text: bytes) -> bool:
    names = locale_names(system)
    found = [LOCALE_NAME.fullmatch(line) for line in lines(text) if line and not line.startswith("#")]
    return all(match and (match[3] is None or match[3] in BASE_LOCALES or match[3] in names) for match in found)


def is_list_of_locales(system: System, path: str, text: bytes) -> bool:
    """Return whether the lines of locales are those of glibc in their order; a person chooses by a comment sign."""
    offered = content(system.root, SUPPORTED).decode("ascii").split("\n") if system.is_packaged(SUPPORTED) else []
    rows = [line for line in lines(text) if line and not line.startswith("#")]
    places = [offered.index(row.strip()) if row.strip() in offered else -1 for row in rows]
    return all(place >= 0 for place in places) and places == sorted({*places})


def locale_names(system: System) -> set[str]:
    """Return the names of the locales of glibc."""
    if not system.is_packaged(SUPPORTED):
        return set()
    rows = content(system.root, SUPPORTED).decode("ascii").split("\n")
    names = {row.partition(" ")[0] for row in rows if row}
    return names | {name.replace(".UTF-8", ".utf8") for name in names}


def is_list_of_shells(system: System, path: str, text: bytes) -> bool:
    """Return whether the list has the shells of the base system, then others of packages, each once."""
    head, *rows = lines(text)
    base, more = rows[: len(SHELLS)], rows[len(SHELLS) :]
    return (
        head == "# /etc/shells: valid login shells"
        and sorted(base) == sorted(SHELLS)
        and base[0] == SHELLS[0]
        and len({*more}) == len(more)
        and all(row in MORE_SHELLS and os.path.exists(system.root + row) for row in more)
    )


def is_list_of_ranges(system: System, path: str, text: bytes) -> bool:
    """Return whether each range is one that useradd gives: of an account, apart from all others and from all ids."""
    accounts = [line.split(":") for line in lines(content(system.root, "/etc/passwd"))]
    ids = {row[0]: int(row[2]) for row in accounts if len(row) > 2 and row[2].isdecimal()}
    rows = [line.split(":") for line in lines(text)]
    if any(len(row) != 3 or not row[1].isdecimal() or row[2] != str(RANGE_SIZE) for row in rows):
        return False
    starts = [int(start) for _, start, _ in rows]
    names = [name for name, _, _ in rows]
    return (
        all(start >= RANGE_START and (start - RANGE_START) % RANGE_SIZE == 0 for start in starts)
        and len({*starts}) == len(starts)
        and len({*names}) == len(names)
        and all(name in ids and ids[name] >= 1000 for name in names)
        and not any(start <= number < start + RANGE_SIZE for start in starts for number in ids.values())
        and is_range_of_both(system, path, text)
    )


def is_range_of_both(system: System, path: str, text: bytes) -> bool:
    """Return whether the other file of ranges has the same ones: useradd writes both."""
    other = "/etc/subgid" if path == "/etc/subuid" else "/etc/subuid"
    return system.exists(other) and sorted(lines(text)) == sorted(lines(content(system.root, other)))


def is_merged_rules(system: System, path: str, text: bytes) -> bool:
    """Return whether the file is what augenrules makes of its sources, each of which is in the account."""
    names = sorted((name for name in listing(system.root + RULES) if is_rules(name)), key=version_key)
    texts = [content(system.root, f"{RULES}/{name}").decode("utf-8", "surrogateescape") for name in names]
    rows = [row for each in texts for row in each.split("\n")]
    found = text.decode("utf-8", "surrogateescape")
    return any(found == merge(rows, blanks) for blanks in ("", r"\s*"))  # mawk and gawk differ


def is_rules(name: str) -> bool:
    return name.endswith(".rules") and not name.startswith(".")


def merge(rows: list[str], blanks: str) -> str:
    """Return the file that augenrules writes. Source: audit-userspace, init.d/augenrules."""
    last = {"-D": "", "-b": "", "-f": "", "-e": ""}
    rest = []
    for row in rows:
        match = re.match(rf"{blanks}(#|-e|-D(?=\s*$)|-f|-b)", row)
        if match and match[1] in last:
            last[match[1]] = row
        elif row and not match:
            rest.append(row)
    head = f"## This file is automatically generated from {RULES}"
    return "\n".join([head, last["-D"], last["-b"], last["-f"], *rest, last["-e"], ""])


def version_key(name: str) -> list[Any]:
    """Return the key of the order of ``ls -v``. Source: GNU coreutils, "Version sort ordering"."""
    parts = re.split(r"(\d+)", name[: -len(".rules")])
    return [int(part) if number % 2 else [order(letter) for letter in part] for number, part in enumerate(parts)]


def order(letter: str) -> int:
    return -1 if letter == "~" else ord(letter) + (0 if letter.isalpha() else 256)


def is_leftover(system: System, path: str, text: bytes) -> bool:
    """Return whether the file is the other version of a configuration file, where no program reads this name."""
    match = LEFTOVER.fullmatch(path)
    packaged = {**conffiles(system.root), **ucf_digests(system.root)}.get(match[1] if match else "")
    if match is None or packaged is None:
        return False
    if match[2] in LATEST:
        return hashlib.new("md5", text).hexdigest() == packaged  # noqa: S324 - dpkg's
    return BY_NAME.fullmatch(os.path.dirname(path)) is not None and not text.startswith(b"#!")


def is_of_grub(system: System, path: str, text: bytes) -> bool:
    """Return whether the file is the copy that grub-install made of a packaged one."""
    match = GRUB.fullmatch(path)
    if match is None:
        return False
    font, platform, module, language, other = match.groups()
    if language:
        return system.is_copy(text, f"/usr/share/locale/{language}/LC_MESSAGES/grub.mo") or system.is_copy(
            text, f"/usr/share/locale-langpack/{language}/LC_MESSAGES/grub.mo"
        )
    if platform:
        return system.is_copy(text, f"/usr/lib/grub/{platform}/{module}")
    return system.is_copy(text, f"/usr/share/grub/{font or other}")


def is_grub_environment(system: System, path: str, text: bytes) -> bool:
    """Return whether the file is a block of GRUB that chooses no other entry for the next start.

    GRUB starts ``next_entry`` once, and ``saved_entry`` where its settings say so. Source: grub-reboot(8).
    """
    rows = text[len(GRUB_HEAD) :].rstrip(b"#").split(b"\n")
    return (
        len(text) == GRUB_BLOCK
        and text.startswith(GRUB_HEAD)
        and all(not row or GRUB_VARIABLE.fullmatch(row) or row.startswith(b"# WARNING") for row in rows)
        and not any(GRUB_CHOICE.match(row) and not keeps_choice(system, row) for row in rows)
    )


def keeps_choice(system: System, row: bytes) -> bool:
    """Return whether GRUB itself writes down the entry that it has started, as its settings ask for."""
    folder = "/etc/default/grub.d"
    paths = [GRUB_SETTINGS, *(f"{folder}/{name}" for name in listing(system.root + folder, "*.cfg"))]
    texts = [read(system.root + path) for path in paths if system.exists(path)]
    is_saved = any(re.search(r"^\s*GRUB_SAVEDEFAULT=[\"']?true", text, re.MULTILINE) for text in texts)
    return row.startswith(b"saved_entry=") and is_saved


def is_copy_for_mail(system: System, path: str, text: bytes) -> bool:
    match = MAIL_COPY.fullmatch(path)
    return match is not None and os.path.isfile(system.root + match[1]) and text == read_link(system.root, match[1])


def read_link(root: str, path: str) -> bytes:
    with open(root + path, "rb") as file:
        return file.read(FILE_BYTES)


def is_hosts(system: System, path: str, text: bytes) -> bool:
    return not names(system.root)


def is_choice(system: System, path: str, text: bytes) -> bool:
    return authorities.is_choice(system.root, text, system.is_packaged)


def is_bundle(system: System, path: str, text: bytes) -> bool:
    return authorities.is_bundle(system.root, text, system.is_packaged)


def is_keystore(system: System, path: str, text: bytes) -> bool:
    return authorities.is_keystore(system.root, text, system.is_packaged)


def is_library_cache(system: System, path: str, text: bytes) -> bool:
    return binary_indexes.is_library_cache(system.root, text)


def is_loader_cache(system: System, path: str, text: bytes) -> bool:
    return binary_indexes.is_loader_cache(system.root, path, text)


def is_module_index(system: System, path: str, text: bytes) -> bool:
    return binary_indexes.is_module_index(text)


def is_empty(system: System, path: str, text: bytes) -> bool:
    return not text


CHECKS: dict[str, Check] = {
    **dict.fromkeys(COPIES, is_copy),
    name_services.PATH: name_services.is_switch,
    **dict.fromkeys(TEXTS, is_known_text),
    **dict.fromkeys(LINES, has_known_lines),
    **dict.fromkeys(NAMES_OF_HOST, is_name_of_host),
    "/boot/grub/grubenv": is_grub_environment,
    "/etc/audit/audit.rules": is_merged_rules,
    authorities.CHOICE: is_choice,
    authorities.BUNDLE: is_bundle,
    authorities.JAVA: is_keystore,
    "/etc/default/locale": is_language,
    "/etc/hostname": is_hostname,
    HOSTS: is_hosts,
    "/etc/ld.so.cache": is_library_cache,
    "/etc/locale.gen": is_list_of_locales,
    "/etc/mailname": is_mail_name,
    "/etc/network/interfaces": grammars.is_interfaces,
    **{f"/etc/pam.d/common-{type}": is_pam for type in pam_profiles.TYPES},
    "/etc/shells": is_list_of_shells,
    "/etc/subgid": is_list_of_ranges,
    "/etc/subuid": is_list_of_ranges,
    "/etc/timezone": is_zone,
    "/run/systemd/generator/netplan.stamp": is_empty,
    "/run/systemd/system/netplan-ovs-cleanup.service": grammars.is_netplan_unit,
    "/run/tmpfiles.d/static-nodes.conf": grammars.is_device_nodes,
    "/run/udev/rules.d/90-netplan.rules": netplan_files.is_naming_rules,
}
"""The check of each file, by path."""
PATTERNS: dict[str, Check] = {
    r"/etc/apparmor\.d/local/[\w.-]+": is_local_profile,
    r"/etc/cdi/(?:nvidia|rackwright-jetson)\.(?:yaml|json)": grammars.is_device_list,
    r"/etc/console-setup/cached_setup_\w+\.sh": grammars.is_console_script,
    r"/etc/network/interfaces\.d/[\w.-]+": grammars.is_interfaces,
    r"/usr/lib/[\w-]+/g[\w.+/-]+/(?:loaders|giomodule)\.cache": is_loader_cache,
    r"/usr/lib/modules/[\w.+-]+/modules\.dep\.bin": is_module_index,
    GRUB.pattern: is_of_grub,
    MAIL_COPY.pattern: is_copy_for_mail,
    rf"/etc/kubernetes/manifests/(?:{'|'.join(kubeadm_files.COMPONENTS)})\.yaml": kubeadm_files.is_static_pod,
    rf"/etc/kubernetes/(?:{'|'.join(kubeadm_files.CLIENTS)})\.conf": kubeadm_files.is_client,
    rf"/etc/kubernetes/pki/(?:{'|'.join(kubeadm_files.CERTIFICATES)})\.crt": kubeadm_files.is_certificate,
    r"/run/systemd/generator(?:\.early|\.late)?/(?:[^/]+/)?[^/]+": grammars.is_unit,
    r"/run/udev/rules\.d/99-netplan-[\w.-]+\.rules": netplan_files.is_naming_rules,
    netplan_files.NAME.pattern: netplan_files.is_network,
    LEFTOVER.pattern: is_leftover,
}
"""The check of the files of each pattern."""
EITHER = re.compile("|".join(f"(?P<c{number}>{pattern})" for number, pattern in enumerate(PATTERNS)))


def check_of(path: str) -> Check | None:
    """Return the check for the file *path*; None if no program that the probe knows writes it."""
    if path in CHECKS:
        return CHECKS[path]
    match = EITHER.fullmatch(path)
    if match is None:
        return None
    number = next(number for number in range(len(PATTERNS)) if match[f"c{number}"] is not None)
    return [*PATTERNS.values()][number]


def rendered_paths(system: System, candidates: Iterable[str]) -> list[str]:
    """Return those of *candidates* that are what a program of a package writes."""
    return judgements(system, candidates)[0]


def judgements(system: System, candidates: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return those of *candidates* that are what a program of a package writes, and why others are not, as far as
    their check says so.
    """
    rendered: list[str] = []
    reasons: dict[str, str] = {}
    for path in candidates:
        found = attempt(is_rendered, system, path)
        if found is True:
            rendered.append(path)
        elif isinstance(found, dict) and check_of(path) is not None:
            reasons[path] = found["unknown"][:REASON]
    return sorted(rendered), dict(sorted(reasons.items())[:REASONS])


def is_rendered(system: System, path: str) -> bool:
    """Return whether a file is root's, writable by no other account, and as its program writes it."""
    check = check_of(path)
    status = os.lstat(system.root + path)
    if stat.S_ISLNK(status.st_mode):
        return (status.st_uid, status.st_gid) == OWNER and unit_links.is_known(system, path, is_rendered)
    if check is None:
        return False
    group = status.st_gid if check is netplan_files.is_network else OWNER[1]  # netplan 1.0 gives it to networkd
    is_plain = stat.S_ISREG(status.st_mode) and (status.st_uid, status.st_gid) == (OWNER[0], group)
    allowed = 0o755 if check is grammars.is_console_script else PLAIN
    return is_plain and not stat.S_IMODE(status.st_mode) & ~allowed and check(system, path, content(system.root, path))


def alternatives(root: str) -> dict[str, set[str]]:
    """Return the targets that packages registered for each link of update-alternatives, by the path of the link.

    A link outside /etc/alternatives leads there, and has one target. Source: update-alternatives(1), FILES.
    """
    targets: dict[str, set[str]] = {}
    for name in listing(root + ALTERNATIVES):
        try:
            text = content(root, f"{ALTERNATIVES}/{name}").decode("utf-8", "surrogateescape")
        except (OSError, ReadError):
            continue
        head, *rest = text.split("\n\n", 1)
        _, link, *pairs = head.split("\n")
        slaves = list(zip(pairs[::2], pairs[1::2]))
        for each, path in ((name, link), *slaves):
            targets.setdefault(path, set()).add(f"{CHOSEN}/{each}")
        rows = rest[0].split("\n") if rest else []
        size = 2 + len(slaves)
        for start in range(0, len(rows) - size + 1, size):
            path, _, *of_slaves = rows[start : start + size]
            for each, target in ((name, path), *zip((slave for slave, _ in slaves), of_slaves)):
                if target:
                    targets.setdefault(f"{CHOSEN}/{each}", set()).add(target)
    return targets
