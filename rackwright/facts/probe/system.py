"""Identity, hardware, packages, files and directories."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import stat
from functools import lru_cache
from glob import glob
from typing import Any, Callable

from rackwright.facts.digest import digest
from rackwright.facts.probe.digest_cache import DigestCache
from rackwright.facts.probe.observe import (
    ReadError,
    attempt,
    listing,
    read,
    read_any,
    read_untrusted,
    run_tool,
    unknown_value,
)

DPKG_STATUS = "/var/lib/dpkg/status"
FILE_ROOTS = ("/etc", "/usr/local", "/opt/rackwright", "/var/lib/rackwright")
REWRITTEN_ROOTS = ("/var/lib/totp", "/var/log/rackwright", "/var/lib/prometheus/node-exporter")
"""Directories whose files are large or change all the time; the probe reads their owner and mode but no content."""
LOCALES, LOCALE_FILE = "/usr/lib/locale", "LC_IDENTIFICATION"
"""Directory of the locales, and the file that localedef writes last: the probe lists no other file of a locale."""
PLUGINS = "/usr/lib/cni"
"""Directory of Debian's plugins for the network of pods, into which roles link their own."""
COVERED = (*FILE_ROOTS, *REWRITTEN_ROOTS, f"{LOCALES}/*/{LOCALE_FILE}", f"{PLUGINS}/*")
"""Directories and patterns of the files that the probe lists."""
MISSING = ", which does not exist"
"""End of the digest of a link that leads to nothing."""
FOLLOWED = ("/usr/", "/etc/")
"""Directories of the system, below which the probe follows links."""
FILE_BYTES = 1 << 20
TEXTS = (
    "/etc/mdadm/mdadm.conf", "/etc/mdadm/mdadm.conf.d/*.conf", "/etc/default/mdadm", "/etc/systemd/system/*.mount",
    "/etc/netplan/*.yaml", "/etc/systemd/network/*.network", "/etc/systemd/network/*.netdev",
    "/etc/network/interfaces", "/etc/network/interfaces.d/*",
)  # fmt: skip
OWNERS = "/var/lib/rackwright/owners"
SECRET = re.compile(r"(\b\w*(?:pass|secret|credential|token)\w*)=[^,\s]+", re.IGNORECASE)
NETWORK_SECRET = re.compile(
    r"(\b[\w-]*(?:pass|psk|secret|private|shared|identity|key)[\w-]*[\"']?(?:[ \t]*[:=][ \t]*|[ \t]+))[^\s{][^,}\n]*",
    re.IGNORECASE,
)
"""Secrets such as ``password: x`` (netplan), ``PrivateKey=x`` (networkd), ``wpa-psk x`` (ifupdown); masks too much
rather than too little."""
ENVIRONMENT_MARKER = "pyvenv.cfg"
"""Name of the file that marks a Python environment, whose tens of thousands of files belong to its packages."""
ENVIRONMENTS = ("/opt/rackwright/*", "/opt/rackwright/*/*")
"""Patterns of the Python environments that rackwright manages."""
LEFT_OVER = (".bak", ".old", "-old", ".new", ".tmp", "-dkms")

PLACEHOLDERS = frozenset(
    (
        "", "none", "n/a", "na", "null", "unknown", "default string", "not specified", "not applicable",
        "system serial number", "chassis serial number", "serial number", "to be filled by o.e.m.", "empty",
        "0123456789", "123456789", "1234567890", "03000200-0400-0500-0006-000700080009",
    )
)  # fmt: skip


def without_placeholder(text: str) -> str | None:
    """Return *text*, or None for a placeholder of the board's manufacturer."""
    letters = set(text.replace("-", "").replace(" ", "").lower())
    return None if text.lower() in PLACEHOLDERS or len(letters) < 2 else text


def identity(root: str) -> dict[str, Any]:
    dmi = f"{root}/sys/class/dmi/id"
    return {
        "serial": attempt(lambda: without_placeholder(read_any(f"{dmi}/product_serial"))),
        "uuid": attempt(lambda: without_placeholder(read_any(f"{dmi}/product_uuid").lower())),
        "bmc_mac": unknown_value("the probe does not query the BMC") if os.path.exists(f"{root}/dev/ipmi0") else None,
        "device_tree_serial": attempt(lambda: without_placeholder(read_any(f"{root}/proc/device-tree/serial-number"))),
        "hostname": attempt(read, f"{root}/proc/sys/kernel/hostname"),
        "machine_id": attempt(read, f"{root}/etc/machine-id"),
    }


def release(root: str) -> dict[str, Any]:
    lines = read_any(f"{root}/etc/os-release", f"{root}/usr/lib/os-release").splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return {
        key: values[name].strip("\"'") if name in values else unknown_value(f"os-release has no {name}")
        for key, name in (("id", "ID"), ("version_id", "VERSION_ID"))
    }


def hardware(root: str) -> dict[str, Any]:
    return {
        "cpus": attempt(cpus, root),
        "memory_bytes": attempt(memory, root),
        "pci": attempt(pci, root),
    }


def cpus(root: str) -> int:
    return sum(re.fullmatch(r"cpu\d+", name) is not None for name in os.listdir(f"{root}/sys/devices/system/cpu"))


def memory(root: str) -> int:
    return int(re.findall(r"^MemTotal: +(\d+) kB", read(f"{root}/proc/meminfo"), re.M)[0]) * 1024


def pci(root: str) -> list[str]:
    functions = (line.split("\t")[1] for line in read(f"{root}/proc/bus/pci/devices").splitlines())
    return [f"{code[:4]}:{code[4:]}" for code in functions]


def packages(root: str) -> dict[str, str]:
    status = root + DPKG_STATUS
    return debian_packages(dpkg_status(status)) if os.path.exists(status) else rpm_packages()


def dpkg_status(path: str) -> str:
    """Return dpkg's database.

    Raises:
        ReadError: the database lacks the package dpkg or the final empty line, so it is incomplete.
    """
    with open(path, "rb") as file:
        status = file.read().decode("utf-8", "replace")
    if not status.endswith("\n\n") or "\nPackage: dpkg\n" not in f"\n{status}":
        raise ReadError(f"{path} has no package dpkg, or is truncated")
    return status


def held_packages(root: str) -> list[str]:
    """Return the installed packages with a hold in dpkg."""
    status = root + DPKG_STATUS
    if not os.path.exists(status):
        raise ReadError("rpm has no holds; versionlock is not read")
    return sorted(debian_packages(dpkg_status(status), "hold ok installed"))


def debian_packages(status: str, state: str = " installed") -> dict[str, str]:
    """Return the version of each package in dpkg's database whose status ends with *state*.

    A package of a foreign architecture has the name ``name:architecture``.
    """
    rows, native = [], {"all"}
    for paragraph in status.split("\n\n"):
        if state not in paragraph and not paragraph.startswith("Package: dpkg\n"):
            continue  # for speed: the regular expression on thousands of paragraphs is slow
        status_field = field(paragraph, "Status")
        if paragraph.startswith("Package: dpkg\n") and status_field.endswith(" installed"):
            native.add(field(paragraph, "Architecture"))
        if status_field.endswith(state):
            rows.append(tuple(field(paragraph, name) for name in ("Package", "Architecture", "Version")))
    return {
        name if architecture in native else f"{name}:{architecture}": version for name, architecture, version in rows
    }


def field(paragraph: str, name: str) -> str:
    """Return the value of a field of one line; empty without it. A regular expression takes ten times as long."""
    start = 0 if paragraph.startswith(f"{name}: ") else paragraph.find(f"\n{name}: ") + 1
    if start == 0 and not paragraph.startswith(f"{name}: "):
        return ""
    return paragraph[start + len(name) + 2 :].partition("\n")[0]


def rpm_packages() -> dict[str, str]:
    output = run_tool("rpm", "-qa", "--queryformat", "%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\n")
    versions = dict(line.split(" ", 1) for line in output.splitlines() if RPM.fullmatch(line))
    if len(versions) != len({*output.splitlines()}) or not output.endswith("\n") or "rpm" not in versions:
        raise ReadError("the output of rpm is not its list of packages, or incomplete")
    return versions


RPM = re.compile(r"[\w.+-]+ [^ :]+:[^ ]+-[^ ]+")


def environments(root: str) -> dict[str, dict[str, str]]:
    """Return the versions of packages in each managed Python environment, by normalised name. Source: PEP 503, 376."""
    markers = sorted(marker for pattern in ENVIRONMENTS for marker in glob(f"{root}{pattern}/{ENVIRONMENT_MARKER}"))
    return {os.path.dirname(marker)[len(root) :]: attempt(distributions, os.path.dirname(marker)) for marker in markers}


def distributions(environment: str) -> dict[str, str]:
    versions: dict[str, str] = {}
    for path in sorted(glob(f"{environment}/lib/python3*/site-packages/*.dist-info")):
        # an interrupted installation has no list of files yet
        if os.path.exists(f"{path}/RECORD"):
            name, _, version = os.path.basename(path)[: -len(".dist-info")].rpartition("-")
            normalised = re.sub(r"[-_.]+", "-", name).lower()
            earlier = versions.get(normalised)
            versions[normalised] = f"{earlier}, {version}" if earlier else version  # Python takes any of them
    return versions


class Changes:
    """The files and directories that changed at or after a time, in nanoseconds since 1970, with their times."""

    def __init__(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self.times: dict[str, int] = {}
        self.spans: dict[str, list[list[int]]] = {}
        """Times from and to which a file had its present content, in nanoseconds since 1970."""


NEVER = 1 << 63
"""A time after all others."""


def tree(root: str, salt: bytes, changes: Changes | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all files below the roots and those of the locales, and all directories including the roots.

    Args:
        changes: Gets those that changed since its time.
    """
    changes = changes or Changes(NEVER)
    files: dict[str, Any] = {}
    directories: dict[str, Any] = {}
    cache = DigestCache(root, salt, lambda path, status: content_digest(root + path, status, salt))
    for top in FILE_ROOTS:
        walk(root, top, None, cache.digest, files, directories, changes)
    for top in REWRITTEN_ROOTS:
        walk(root, top, None, None, files, directories, changes)
    files |= {**locales(root), **network_plugins(root, cache.digest)}
    cache.save()
    changes.spans = {path: spans for path, spans in cache.spans.items() if path in changes.times}
    return files, directories


def network_plugins(root: str, read_digest: ReadDigest) -> dict[str, Any]:
    """Return the plugins for the network of pods; the programs are larger than what the probe digests."""
    names = attempt(listing, root + PLUGINS)
    if isinstance(names, dict):
        return {PLUGINS: names}
    return {f"{PLUGINS}/{name}": attempt(file, root, f"{PLUGINS}/{name}", read_digest) for name in names}


def locales(root: str) -> dict[str, Any]:
    """Return the last file of each locale; a link in the place of a locale; or why the directory is unreadable."""
    names = attempt(listing, root + LOCALES)
    if isinstance(names, dict):
        return {LOCALES: names}
    found = {}
    for name in names:
        path = f"{LOCALES}/{name}" + ("" if os.path.islink(f"{root}{LOCALES}/{name}") else f"/{LOCALE_FILE}")
        if os.path.lexists(root + path):
            found[path] = attempt(file, root, path, None)
    return found


ReadDigest = Callable[[str, os.stat_result], Any]
"""A function of the path below the root, and the file's status, that returns the digest or why it is unknown."""


def walk(
    root: str,
    folder: str,
    device: int | None,
    read_digest: ReadDigest | None,
    files: dict[str, Any],
    directories: dict[str, Any],
    changes: Changes,
) -> None:
    """Add every file below *folder* to *files*, every unreadable folder with the reason, and each to *directories*.

    A directory of another account than root is not entered: nothing below it is declared, and it may contain anything.
    """
    try:
        status = os.stat(root + folder, follow_symlinks=device is None)
        directories[folder] = entry(status)
        if status.st_ctime_ns >= changes.since_ns:
            changes.times[folder] = status.st_ctime_ns
        if device not in (None, status.st_dev):
            files[folder] = unknown_value("another filesystem is mounted here")
            return
        if device is not None and status.st_uid not in (0, os.geteuid()):
            files[folder] = unknown_value(
                f"it belongs to {owner_name(status.st_uid, status.st_gid)}, and is not entered"
            )
            return
        with os.scandir(root + folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        files[folder] = unknown_value(str(error.strerror))
        return
    if any(child.name == ENVIRONMENT_MARKER for child in entries):
        files[folder] = unknown_value("a Python environment, of which only the packages are read")
        return
    for child in entries:
        path = f"{folder}/{child.name}"
        if child.is_dir(follow_symlinks=False):
            walk(root, path, status.st_dev, read_digest, files, directories, changes)
        else:
            files[path] = attempt(file, root, path, read_digest, changes)


def file(root: str, path: str, read_digest: ReadDigest | None, changes: Changes | None = None) -> dict[str, Any]:
    """Return digest, mode, owner and time of a file; without *read_digest* the digest is unknown."""
    status = os.lstat(root + path)
    if changes is not None and status.st_ctime_ns >= changes.since_ns:
        changes.times[path] = status.st_ctime_ns
    if read_digest is None:
        content = unknown_value("rewritten by the system")
    elif stat.S_ISLNK(status.st_mode):
        content = attempt(link_digest, root + path)
    else:
        content = read_digest(path, status)
    more = {"same_as": attempt(names_of_zone, root)} if path == ZONE and stat.S_ISLNK(status.st_mode) else {}
    return {"digest": content, **entry(status), **more}


ZONE, ZONES = "/etc/localtime", "/usr/share/zoneinfo"


def names_of_zone(root: str) -> list[str]:
    """Return all paths of the file of the host's time zone: zones have several names, as links or as one file."""
    zone = os.stat(root + ZONE)
    found = []
    for folder, _, names in os.walk(root + ZONES):
        for name in names:
            try:
                status = os.stat(f"{folder}/{name}")
            except OSError:
                continue  # a link to nothing
            if (status.st_dev, status.st_ino) == (zone.st_dev, zone.st_ino):
                found.append(f"{folder}/{name}"[len(root) :])
    return sorted(found)


def entry(status: os.stat_result) -> dict[str, Any]:
    return {
        "mode": mode_text(status.st_mode),
        "owner": owner_name(status.st_uid, status.st_gid),
        "mtime_ns": status.st_mtime_ns,
    }


@lru_cache(maxsize=None)
def mode_text(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"


def link_digest(path: str) -> str:
    """Return the target of a link, in the place of a digest."""
    target = os.readlink(path)
    return f"-> {target}{MISSING}" if dangles(os.path.dirname(path), target) else f"-> {target}"


def content_digest(path: str, status: os.stat_result, salt: bytes) -> str:
    if not stat.S_ISREG(status.st_mode):
        raise ReadError("neither a file nor a link")
    if status.st_size > FILE_BYTES:
        raise ReadError("larger than 1 MiB")
    folder, _, name = path.rpartition("/")
    return digest(read_untrusted(folder, name, FILE_BYTES), salt)


def dangles(folder: str, target: str) -> bool:
    """Return whether a link in *folder* leads to nothing. A target that may be on a hanging mount is not followed."""
    path = os.path.normpath(os.path.join(folder, target))
    return path.startswith(FOLLOWED) and not os.path.exists(path)


@lru_cache(maxsize=None)
def owner_name(user: int, group: int) -> str:
    """Return ``user:group``, with a number for an account without a name."""
    try:
        user_name = pwd.getpwuid(user).pw_name
    except KeyError:
        user_name = str(user)
    try:
        return f"{user_name}:{grp.getgrgid(group).gr_name}"
    except KeyError:
        return f"{user_name}:{group}"


def texts(root: str) -> dict[str, Any]:
    contents = {}
    for folder, pattern in map(os.path.split, TEXTS):
        for name in listing(root + folder, pattern):
            contents[f"{folder}/{name}"] = attempt(text, f"{root}{folder}/{name}")
    return contents


def text(path: str) -> str:
    """Return a file's text with passwords masked; the text of a masked unit, a link to /dev/null, is empty."""
    if not os.path.isfile(path) and os.path.realpath(path) != "/dev/null":
        raise ReadError("neither a file nor a link to one")
    with open(path, encoding="utf-8", newline="") as content:
        return mask_secrets(path, content.read())


def mask_secrets(path: str, content: str) -> str:
    if "/etc/net" in path or "/systemd/network/" in path:
        return NETWORK_SECRET.sub(r"\1'***'", content)
    return SECRET.sub(r"\1=***", content)


def owners(root: str) -> dict[str, Any]:
    folder = root + OWNERS
    return {name[: -len(".json")]: attempt(owner, f"{folder}/{name}") for name in listing(folder, "*.json")}


def owner(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as content:
        value = json.load(content)
    if not isinstance(value, dict):
        raise ReadError("not a JSON object")
    return value


def initramfs(root: str) -> list[dict[str, Any]]:
    names = (name for name in listing(f"{root}/boot", "initrd.img-*") if not name.endswith(LEFT_OVER))
    return [{"path": f"/boot/{name}", "mtime_ns": os.stat(f"{root}/boot/{name}").st_mtime_ns} for name in names]
