"""Views of the account of a host's files: which are as packages installed them, and which are not."""

import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from rackwright.facts.view import Fact, UnknownFact, View, mapping, optional, texts

ROOTS = ("/etc/", "/usr/", "/boot/", "/var/spool/")
"""Directories whose files the account has."""
TAGS = {0x01: "user", 0x02: "user", 0x04: "group", 0x08: "group", 0x10: "mask", 0x20: "other"}
NAMED = (0x02, 0x08)
"""Entries of an access control list for a named account or group. Source: linux/posix_acl_xattr.h."""
CAPABILITIES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner"),
    *("sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice"),
    *("sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap"),
    *("mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf"),
    "checkpoint_restore",
)
"""Names of capabilities by their number. Source: linux/capability.h."""


class FileRow(View):
    """A file that is not plainly as its package installed it."""

    state = Fact(str, "unpackaged, changed, missing, packaged (only its rights are listed), unread.")
    mode = Fact(str, "Four octal digits.")
    owner = Fact(str, "user:group by name.")

    @property
    def is_special(self) -> bool:
        """Return whether the file has rights, attributes or an owner that most packaged files do not have."""
        return any(self.has(key) for key in ("rights", "capabilities", "acl", "default_acl", "flags"))

    @property
    def has_lost_rights(self) -> bool:
        """Return whether a packaged file has fewer rights than packages give."""
        return self.has("lost")

    @property
    def package(self) -> str:
        """Package of a missing file; empty for one that is there."""
        return self.value("package", str) if self.has("package") else ""

    @property
    def target(self) -> str | None:
        """Target of a link; None for a file."""
        text = self.read("digest") if self.has("digest") and isinstance(self._raw["digest"], str) else ""
        return text[3:].partition(",")[0] if text.startswith("-> ") else None

    @property
    def is_dangling(self) -> bool:
        """Return whether the file is a link to nothing."""
        return str(self._raw.get("digest")).endswith(", which does not exist")

    @property
    def files(self) -> int | None:
        """Number of files of a whole directory that no package installed; None for a file."""
        return self.value("files", int) if self.has("files") else None

    @property
    def reason(self) -> str:
        """Reason why a place was not read."""
        return self.value("found", str) if self.has("found") else "not read"

    @property
    def capabilities(self) -> str | None:
        """Capabilities that the file gives to its caller, such as ``cap_net_raw``; None without any."""
        return format_capabilities(self.value("capabilities", bytes.fromhex)) if self.has("capabilities") else None

    @property
    def access_list(self) -> str | None:
        """Entries of the access control lists for named accounts and groups; None without a list."""
        lists = [self.value(key, bytes.fromhex) for key in ("acl", "default_acl") if self.has(key)]
        return ", ".join(entry for raw in lists for entry in acl_entries(raw)) if lists else None

    @property
    def flags(self) -> str | None:
        """``immutable`` or ``append-only``; None for a file without these attributes."""
        return optional(self._raw.get("flags"))


def format_capabilities(raw: bytes) -> str:
    """Return the names of the capabilities in an extended attribute. Source: linux/capability.h, vfs_cap_data."""
    numbers = struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
    permitted = sum(word << (32 * index) for index, word in enumerate(numbers[1:5:2]))
    inheritable = sum(word << (32 * index) for index, word in enumerate(numbers[2:5:2]))
    bits = permitted | inheritable
    return ",".join(f"cap_{name}" for bit, name in enumerate(CAPABILITIES) if bits >> bit & 1) or "no capability"


def acl_entries(raw: bytes) -> Iterator[str]:
    """Yield the entries of an access control list in its extended form. Source: linux/posix_acl_xattr.h."""
    for start in range(4, len(raw) - 7, 8):
        tag, permissions, number = struct.unpack_from("<HHI", raw, start)
        letters = "".join(letter if permissions & bit else "-" for letter, bit in zip("rwx", (4, 2, 1), strict=True))
        yield f"{TAGS.get(tag, tag)}:{number if tag in NAMED else ''}:{letters}"


class HostIntegrity(View):
    """The account of the files of a host."""

    @cached_property
    def integrity(self) -> "IntegrityFacts":
        return IntegrityFacts(self.read("integrity"), "facts.integrity")


class IntegrityFacts(View):
    """The files of the system that are not as packages installed them."""

    files = Fact(mapping, "The files, by path.")
    left_out = Fact(mapping, "Number of files that are not listed, by directory.")
    packaged = Fact(int, "Number of files that are as packages installed them.")
    derived = Fact(int, "Number of files that packages' programs made of packaged files.")
    pending = Fact(int, "Number of packaged files that the probe had no time to read.")
    rendered = Fact(texts, "Files whose whole content is what packages' programs write.")

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why files are not what their programs write, by path; empty where no check says so."""
        if not self.has("reasons"):
            return {}
        table = View(self.table("reasons"), f"{self._where}.reasons")
        return {path: table.value(path, str) for path in self.table("reasons")}

    @property
    def names(self) -> Iterator[tuple[str, ...]]:
        """Yield the lines of /etc/hosts that name other machines: an address, and its names."""
        rows = self.read("names")
        if not isinstance(rows, list):
            raise UnknownFact("facts.integrity.names has a value of another form than the probe writes")
        yield from (texts(row) for row in rows)

    def row(self, path: str, listed: Mapping[str, Any]) -> FileRow:
        """Return the row of *path*; *listed* is the table of files with digests, which has its mode and owner."""
        own, plain = self.files.get(path, {}), listed.get(path, {})
        plain = plain if isinstance(plain, Mapping) and plain.keys() != {"unknown"} else {}
        return FileRow({"state": "unpackaged", **plain, **mapping(own)}, f"facts.integrity.files.{path}")
