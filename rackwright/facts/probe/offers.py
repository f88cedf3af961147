"""Exports of the host over NFS, and the names that its files give to devices."""

from __future__ import annotations

import os
import re
from typing import Any

from rackwright.facts.probe.observe import attempt, listing, read

EXPORTS, EXPORTS_FOLDER, RUNNING = "/etc/exports", "/etc/exports.d", "/var/lib/nfs/etab"
"""Files of exports(5), and the exports of the running server. Source: exportfs(8), FILES."""
KERNEL_NAME = re.compile(
    r"/dev/(?:sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+)\d*(?![\w/])|/dev/(?:nvme\d+n|md|dm-)\d+(?:p\d+)?(?![\w/])"
)
NAMED_IN = ("/etc/fstab", "/etc/crypttab", "/etc/mdadm/mdadm.conf")
WORD = re.compile(r'"([^"]*)"|(\S+)')
ESCAPED = re.compile(r"\\([0-7]{3})")


def nfs_exports(root: str) -> list[dict[str, Any]]:
    """Return the exported directories, each once: those in files, and those that the server has beside."""
    folder = [f"{EXPORTS_FOLDER}/{name}" for name in listing(root + EXPORTS_FOLDER, "*.exports")]
    rows: list[dict[str, Any]] = []
    for path in (EXPORTS, *folder, RUNNING):
        if os.path.exists(root + path):
            before = {row["directory"] for row in rows} if path == RUNNING else ()
            rows += [{"path": path, **row} for row in exports_in(root + path) if row["directory"] not in before]
    return rows


def exports_in(path: str) -> list[dict[str, Any]]:
    rows: dict[str, list[str]] = {}
    for line in read(path).replace("\\\n", " ").splitlines():
        words = [quoted or plain for quoted, plain in WORD.findall(line.partition("#")[0])]
        if words:
            rows.setdefault(ESCAPED.sub(lambda code: chr(int(code[1], 8)), words[0]), []).extend(words[1:])
    return [{"directory": directory, "clients": clients} for directory, clients in rows.items()]


def kernel_names(root: str) -> dict[str, Any]:
    """Return the kernel's names of devices in the files of mounts, encrypted volumes and arrays, by file."""
    return {path: attempt(names_in, root + path) for path in NAMED_IN if os.path.exists(root + path)}


def names_in(path: str) -> list[str]:
    lines = (line.partition("#")[0] for line in read(path).splitlines())
    return sorted({name for line in lines for name in KERNEL_NAME.findall(line)})
