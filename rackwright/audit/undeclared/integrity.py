"""Rules about all files of the system: whatever no other rule has a better sentence for.

Each file is packaged and unchanged, written by a resource, made by a known program, or a finding here.
"""

import posixpath
import re
from collections.abc import Iterator

from rackwright.audit.undeclared.armed import armed_paths
from rackwright.audit.undeclared.declaration import HostDeclaration, foreign_workloads, is_of_workload, workload_of
from rackwright.audit.undeclared.files import WORKLOADS
from rackwright.audit.undeclared.generated import (
    CAPABILITIES,
    CLUSTER_FILES,
    PRIVILEGES,
    UNIT_FILE,
    maker_of,
    may_link_to,
)
from rackwright.audit.undeclared.paths import MASKABLE, is_in
from rackwright.audit.undeclared.remedies import undo_diversion
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.audit.undeclared.settings import LOCK, REGISTRY
from rackwright.errors import command
from rackwright.facts.facts import Facts
from rackwright.facts.integrity import FileRow
from rackwright.facts.probe.generated_files import check_of
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared.unit_overrides import OVERRIDES
from rackwright.stack.stack import IMAGE_MASKS

NETWORK = ("/etc/netplan", "/etc/systemd/network", "/run/systemd/network", "/run/netplan")
"""Settings of networks without commands, of which nothing is declared on a host without `network`."""
NETPLAN = "/run/systemd/network/10-netplan-"
ENGINES = ("/etc/containers", "/etc/cni")
SYSTEM_UNITS = "/etc/systemd/system"
STAND_INS = ("/usr/local/lib/rackwright-twin", "/etc/cdi/nvidia.json")
"""The library for that of the driver on a virtual host, and the specification of its devices, which are no devices.

Source: twin/gpu/plug.py."""
HOSTS = "/etc/hosts"
MIRRORS = "127.0.2."
"""Beginning of the addresses that a virtual rack gives to the names of its mirrors. Source: twin/mirrors.py."""
PROGRAMS = {
    "/usr/local/bin": ("/usr/bin", "/bin"),
    "/usr/local/sbin": ("/usr/sbin", "/sbin"),
}
"""Directories that come first in PATH and in sudo's secure_path, and those whose programs they hide."""
RUNTIME = "/run/"
PASSWORD_FILES = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-")
OF_OTHERS = 0o007
"""Rights of accounts that are neither the owner nor in the group of a file."""


def rows(facts: Facts, *states: str) -> Iterator[tuple[str, FileRow]]:
    """Yield each file that has one of *states*, of any state for none, and that has more to it than its name."""
    account, listed = facts.integrity, facts.table("files")
    for path in account.files:
        row = account.row(path, listed)
        if not states or row.state in states:
            yield path, row


def extra_files(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the files that no package installed, no resource declares, and no known program makes."""
    account = facts.integrity
    rendered = frozenset(account.rendered)
    workloads = foreign_workloads(facts, declared)
    written = {path for name in facts.table("owners") for path in (facts.owner(name) or {}).get("wrote", ())}
    claimed = _claimed_paths(declared)
    listed = facts.table("files")
    reasons = account.reasons
    diverted = _diverted_paths(facts)
    compares_more = account.has("reasons")  # an earlier probe knew the files of kubeadm and netplan by their names
    unjudged: list[str] = []
    by_name: list[str] = []
    known = rendered | written | claimed | armed_paths(facts) | _overrides(facts, declared)
    for path in sorted({*account.files, *facts.unpackaged} - known):
        row = account.row(path, listed)
        if row.state != "unpackaged":
            continue
        if path == HOSTS:
            yield from _names(facts, declared)
        elif not compares_more and _is_compared_since(path, declared):
            by_name.append(path)
        elif not _is_expected(path, row, declared, workloads):
            if account.pending and check_of(path) is not None:
                unjudged.append(path)
            else:
                remedy = f"{undo_diversion(path)}; {ADMIT}" if path in diverted else ""
                yield Finding(f"file:{path}", _describe(path, row, reasons.get(path, "")), remedy=remedy)
    unread = [f"{path}: {row.reason}" for path, row in rows(facts, "unread") if not _is_unjudged(path)]
    left_out = [f"{path}: {number} files more" for path, number in sorted(account.left_out.items())]
    if unjudged:  # what it is made from counts as changed until it is read
        unread.append(f"{', '.join(unjudged[:3])}: {account.pending} packaged files are not read yet")
    if by_name:
        unread.append(f"{', '.join(by_name[:3])}: an earlier version of the probe did not compare them")
    if why := [*unread, *left_out]:
        raise UnknownFact("; ".join(why[:5]))


def _overrides(facts: Facts, declared: HostDeclaration) -> frozenset[str]:
    """Return the files until the next boot that override declared units: the claims on the units report them."""
    units = [name for name in declared.names("unit") if OVERRIDES in declared.wants[f"unit:{name}"]]
    try:
        return frozenset(path for name in units for path in facts.unit_overrides(name) if path.startswith(RUNTIME))
    except UnknownFact:
        return frozenset()


def _diverted_paths(facts: Facts) -> frozenset[str]:
    """Return the paths of packaged files that a person has moved away; empty where the facts do not say."""
    try:
        return frozenset(each.path for each in facts.package_database.diversions)
    except UnknownFact:
        return frozenset()


def _is_compared_since(path: str, declared: HostDeclaration) -> bool:
    """Return whether a probe of an earlier version did not compare the file."""
    is_of_cluster = declared.in_cluster and CLUSTER_FILES.fullmatch(path) is not None and check_of(path) is not None
    return is_of_cluster or (declared.host.network is not None and path.startswith(NETPLAN))


def _is_unjudged(path: str) -> bool:
    entry = maker_of(path)
    return entry is not None and entry.check == "unjudged"


def _claimed_paths(declared: HostDeclaration) -> frozenset[str]:
    """Return the paths of files and directories that resources claim in any form."""
    sorts = ("file", "directory", "present", "unit_file", "link")
    return frozenset(name for sort in sorts for name in declared.names(sort))


def _is_expected(path: str, row: FileRow, declared: HostDeclaration, workloads: frozenset[str]) -> bool:
    """Return whether a resource, a known program, or a part of the host that nothing is declared of has the file."""
    name = path.rpartition("/")[2]
    if declared.declares_path(path) or is_of_workload(name, workloads) or path.startswith(WORKLOADS):
        return True
    if is_in(path, (SYSTEM_UNITS,)) and name in declared.names("unit") and _is_of_unit(name, row):
        return True  # the claim compares what the unit does
    if declared.image_files and (is_in(path, STAND_INS) or is_in(row.target or "", STAND_INS[:1])):
        return True  # or a link to a stand-in, where a driver has the library
    if row.target == "/dev/null" and declared.image_files and path in IMAGE_MASKS:
        return True
    if declared.host.network is None and is_in(path, NETWORK):
        return True
    if declared.in_cluster and row.target is None and CLUSTER_FILES.fullmatch(path) and check_of(path) is None:
        return True
    if (is_in(path, ENGINES) and name.endswith(LOCK)) or f"file:{path}".startswith(REGISTRY):
        return True
    entry = maker_of(path)
    if entry is None:
        return False
    if row.target is None:
        return entry.check != "link"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), row.target))
    return may_link_to(entry, target) and (entry.check == "rule" or not row.is_dangling)


def _is_of_unit(name: str, row: FileRow) -> bool:
    """Return whether a file of a declared unit is no link to the file of another unit."""
    if row.target in (None, "/dev/null"):
        return True
    target = posixpath.normpath(posixpath.join(SYSTEM_UNITS, row.target or ""))
    same = (name, re.sub(r"@.+(?=\.[a-z]+$)", "@", name))
    return re.fullmatch(UNIT_FILE, target) is not None and target.rpartition("/")[2] in same


def _names(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield /etc/hosts if it gives a name to another machine, or this host's name to an address that it does not have.

    Such a line hides the answer of the resolvers. A file of another form has no lines here, and is a finding as well.
    """
    try:
        names = [*facts.integrity.names]
    except UnknownFact:
        names = []
    lines = [row for row in names if not (_is_mirror(row, declared) or _is_own(row, facts, declared))]
    if lines:
        shown = "; ".join(_line(*row) for row in lines[:5])
        more = f"; and {len(lines) - 5} lines more" if len(lines) > 5 else ""
        yield Finding(f"file:{HOSTS}", f"{shown}{more}")
    elif not names:
        yield Finding(f"file:{HOSTS}", "it is no plain list of names that only root may write")


def _line(address: str, *names: str) -> str:
    """Return a line of /etc/hosts in words, with its first names alone."""
    more = f" and {len(names) - 3} names more" if len(names) > 3 else ""
    return f"{', '.join(name[:80] for name in names[:3])}{more} is {address[:80]}"


def _is_mirror(row: tuple[str, ...], declared: HostDeclaration) -> bool:
    return bool(declared.image_files) and row[0].startswith(MIRRORS)


def _is_own(row: tuple[str, ...], facts: Facts, declared: HostDeclaration) -> bool:
    """Return whether a line gives the host's own name to one of its addresses."""
    address, *names = row
    own = {declared.host.address, *(each.partition("/")[0] for link in facts.links for each in link.addresses)}
    return address in own and {name.partition(".")[0] for name in names} == {declared.name}


def _describe(path: str, row: FileRow, reason: str = "") -> str:
    folder, _, name = path.rpartition("/")
    if row.files is not None:
        return f"a directory with {row.files} files that no package installed"
    kind = "it is not what its program writes" if check_of(path) is not None else "no package installed it"
    kind = f"{kind}: {reason}" if reason else kind
    kind = kind if row.target is None else f"a link to {row.target}"
    if row.target == "/dev/null" and path.startswith(MASKABLE):
        kind = "a link to /dev/null, which switches off the packaged file of that name"
    if folder in PROGRAMS:
        return f"{kind}; it comes before a program {name} of a package"
    if path.startswith(RUNTIME):
        return f"{kind}; it lasts until the next boot"
    return kind


def changed_files(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the packaged files whose content is not that of their package."""
    account = facts.integrity
    for path, row in rows(facts, "changed"):
        if not declared.declares_path(path):
            target = f", a link to {row.target}" if row.target is not None else ""
            yield Finding(f"file:{path}", f"it differs from the file of its package{target}")
    if account.pending:
        raise UnknownFact(f"{account.pending} files are not read yet; each audit reads more of them")


def settings(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the configuration files that differ from their packages."""
    for path, state in facts.changed_conffiles.items():
        if state in ("changed", "link") and not declared.declares_path(path):
            yield Finding(f"file:{path}", "it differs from the file of its package")


def rights(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the files with an owner, rights or attributes that neither a package nor a claim gives."""
    yield from _password_files(facts, declared)
    workloads = foreign_workloads(facts, declared)
    for path, row in rows(facts):
        if not row.is_special:
            continue
        sort = "file" if row.has("digest") else "directory"
        workload = workload_of(path)
        found = {**_attributes(path, row)}
        if workload not in workloads:
            found |= _mode(path, row, declared)
        elif not _is_as_installed(sort, workload, row):
            found[f"mode {row.mode}, owner {row.owner}"] = f"`rackwright up` for the fleet of {workload}"
        if found:
            remedy = f"Run {' and '.join(dict.fromkeys(found.values()))}, {ADMIT}"
            yield Finding(f"{sort}:{path}", ", ".join(found), remedy=remedy)


def _is_as_installed(sort: str, workload: str, row: FileRow) -> bool:
    """Return whether a file has the owner and mode that rackwright gives to those of a run or server of another fleet.

    The fleet of the workload compares them too: it knows which of its files the account must not read.
    """
    mode = "0640" if sort == "file" else "0750"
    return row.has("mode") and row.has("owner") and (row.mode, row.owner) == (mode, f"root:{workload}")


def _password_files(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the files with hashes of passwords that accounts can read, which no special right shows."""
    listed = facts.table("files")
    for path in PASSWORD_FILES:
        if path in listed and not declared.is_of_image(path):
            row = FileRow(listed[path], f"files.{path}")
            if int(row.mode, 8) & OF_OTHERS or row.owner not in ("root:shadow", "root:root"):
                yield Finding(f"file:{path}", f"mode {row.mode}, owner {row.owner}")


FLAGS = {"immutable": "i", "append-only": "a"}
"""Letters of chattr(1)."""


def _attributes(path: str, row: FileRow) -> dict[str, str]:
    """Return the attributes that give rights, each with the command that removes it."""
    found = {}
    if (capabilities := row.capabilities) is not None and capabilities != CAPABILITIES.get(path):
        found[f"gives {capabilities} to its caller"] = command("setcap -r {}", path)
    if (entries := row.access_list) is not None:
        found[f"access list {entries}"] = command("setfacl --remove-all {}", path)
    if flags := row.flags:
        letters = "".join(letter for name, letter in FLAGS.items() if name in flags) or "ia"
        found[flags] = command(f"chattr -{letters} {{}}", path)
    return found


def _mode(path: str, row: FileRow, declared: HostDeclaration) -> dict[str, str]:
    """Return mode and owner with the way to restore them, unless Debian's package gives them or a claim compares."""
    if not row.has("rights") or not row.has("mode"):
        return {}
    wants = {**declared.wants.get(f"file:{path}", {}), **declared.wants.get(f"directory:{path}", {})}
    is_compared = "mode" in wants and "owner" in wants
    if is_compared or declared.is_of_image(path) or (row.mode, row.owner) == PRIVILEGES.get(path):
        return {}
    remedy = "`chmod` and `chown` with the mode and the owner that its package gives"
    if path in PRIVILEGES:
        mode, owner = PRIVILEGES[path]
        # another owner takes the bits of the mode that give rights
        remedy = f"{command(f'chown {owner} {{}}', path)} and {command(f'chmod {mode} {{}}', path)}"
    return {f"mode {row.mode}, owner {row.owner}": remedy}


RULES = (
    Rule(
        "RW-080",
        "Each file of the system belongs to a package, a resource, or a known program.",
        "files of the system",
        "Programs read such a file in place of a packaged one, or in addition, and nothing says who wrote it.",
        f"Remove the file, or declare the role that it belongs to, {ADMIT}",
        "dpkg-query(1), --search; file-hierarchy(7)",
        extra_files,
        rest=True,
    ),
    Rule(
        "RW-081",
        "Packaged files are as their packages installed them.",
        "packaged files",
        "A program or library that a person changed runs with the rights of the packaged one.",
        f"Run `apt-get install --reinstall` for the package that `dpkg --search` names, {ADMIT}",
        "dpkg(1), --verify; debsums(1)",
        changed_files,
        severity="error",
        rest=True,
        remedy_unknown="Find out why files are left, or run the audit again: each one reads more of them",
    ),
    Rule(
        "RW-082",
        "Files of the system have the owner, the rights and the attributes of their packages and resources.",
        "rights of files",
        "A capability or an access list gives an account rights that no mode shows; an attribute blocks upgrades.",
        f"Remove the capability, access list or attribute, or restore mode and owner, {ADMIT}",
        "capabilities(7); acl(5); chattr(1)",
        rights,
        severity="error",
        rest=True,
    ),
    Rule(
        "RW-083",
        "Configuration files are as their packages or resources wrote them.",
        "configuration files",
        "A changed option gives a service other arguments, other files, or another address to trust.",
        f"Restore the packaged file with `apt-get install --reinstall -o Dpkg::Options::=--force-confask`, {ADMIT}",
        "dpkg(1), --force-confask; Debian Policy 10.7",
        settings,
        rest=True,
    ),
)
