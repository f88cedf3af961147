"""The things that the next start takes from tables of mounts, and from directories of extensions and accounts."""

from __future__ import annotations

import os
import stat
from typing import Any, Dict, Iterator

from rackwright.facts.probe.observe import attempt, list_untrusted, read
from rackwright.facts.probe.system import SECRET, owner_name

FSTAB, CRYPTTAB = "/etc/fstab", "/etc/crypttab"
PLACES = {
    "extension": (
        *(f"{top}/extensions" for top in ("/etc", "/run", "/usr/local/lib", "/var/lib")),
        *(f"{top}/confexts" for top in ("/run", "/usr/local/lib", "/var/lib")),
        *(f"/var/lib/{name}.mutable" for name in ("extensions", "confexts")),
    ),
    "credential": tuple(
        f"{top}/credstore{end}" for top in ("/etc", "/run", "/usr/local/lib") for end in ("", ".encrypted")
    ),
    "account": tuple(f"{top}/userdb" for top in ("/etc", "/run", "/run/host", "/usr/local/lib")),
    "source of accounts": ("/run/systemd/userdb",),
    "portable service": tuple(f"{top}/portables" for top in ("/etc", "/run", "/usr/local/lib", "/var/lib")),
    "container": ("/etc/systemd/nspawn", "/run/systemd/nspawn", "/var/lib/machines"),
}
"""Directories that systemd reads by itself, with the sort of the things in them.

Source: systemd-sysext(8), systemd.exec(5), nss-systemd(8), userdbd(8), portablectl(1), machinectl(1)."""
OF_SYSTEMD = frozenset(
    f"/run/systemd/userdb/io.systemd.{name}"
    for name in ("DropIn", "DynamicUser", "Home", "Machine", "Multiplexer", "NameServiceSwitch")
)
"""Sockets of systemd's own services that know accounts."""
ROWS = 200
WORD = 300
"""Letters of a word of a table in the facts."""
Row = Dict[str, Any]


def boot(root: str) -> Row:
    return {
        "mounts": attempt(lambda: [*table(root, FSTAB, ("what", "where", "type", "options"))]),
        "mappings": attempt(lambda: [*table(root, CRYPTTAB, ("name", "device", "key", "options"))]),
        "additions": attempt(lambda: dict(additions(root))),
    }


def table(root: str, path: str, names: tuple[str, ...]) -> Iterator[Row]:
    """Yield the lines of a table, with secrets masked; a line has at least two words. Source: fstab(5), crypttab(5)."""
    if not os.path.exists(root + path):
        return
    for number, text in enumerate(read(root + path).split("\n"), start=1):
        words = text.split()
        if words and not words[0].startswith("#"):
            values = [SECRET.sub(r"\1=***", unescape(word))[:WORD] for word in words[: len(names)]]
            yield {"line": number, **dict(zip(names, [*values, *[""] * len(names)]))}


def unescape(word: str) -> str:
    """Return a word of a table with the blanks that it has as numbers."""
    for number, letter in (("040", " "), ("011", "\t"), ("134", "\\")):
        word = word.replace(f"\\{number}", letter)
    return word


def additions(root: str) -> Iterator[tuple[str, Row]]:
    """Yield each thing in a directory that systemd reads by itself."""
    count = 0
    for sort, folders in PLACES.items():
        for folder in folders:
            for name in list_untrusted(root + folder) if os.path.isdir(root + folder) else ():
                path = f"{folder}/{name}"
                is_other = folder.endswith("/nspawn") and not name.endswith(".nspawn")  # its locks
                if path in OF_SYSTEMD or is_other or is_empty_folder(root + path):
                    continue
                count += 1
                if count > ROWS:
                    return
                status = os.lstat(root + path)
                yield path, {"sort": sort, "owner": owner_name(status.st_uid, status.st_gid)}


def is_empty_folder(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode) and not os.listdir(path)
