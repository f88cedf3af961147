"""Results of earlier probes about the system's files, which unchanged directories need no second time."""

from __future__ import annotations

import os
import time
from typing import Any

from rackwright.facts.probe import digest_cache
from rackwright.facts.probe.dpkg_lists import DpkgLists, Memo
from rackwright.facts.probe.file_walk import Folder
from rackwright.facts.probe.observe import attempt
from rackwright.facts.probe.packaged import DPKG_INFO, UCF
from rackwright.facts.probe.system import DPKG_STATUS

CACHE_NAME, CACHE_FORMAT = "integrity", 2
"""The file in the cache, and the number of the form of its content."""


class Cache:
    """Results of an earlier probe in each directory, while dpkg's database and the directory are unchanged."""

    def __init__(self, root: str, salt: bytes) -> None:
        self._path, self._salt = f"{root}{digest_cache.FOLDER}/{CACHE_NAME}", salt
        self._devices = digest_cache.kept_devices() if digest_cache.may_keep(root) else frozenset()
        self._settled_ns = int((time.time() - digest_cache.SETTLED_SECONDS) * 1e9)
        earlier: Any = digest_cache.load(self._path, salt)[0] if self._devices else {}
        self._epoch = epoch(root)
        self._earlier: dict[str, Any] = earlier.get("folders", {})
        self._memo: dict[str, Any] = earlier.get("memo", {})
        self._same_epoch = earlier.get("epoch") == self._epoch
        self._current: dict[str, Any] = {}
        self._changed = not self._same_epoch

    def recall(self, folder: Folder) -> bool:
        """Fill *folder* with the result of the earlier probe and return True, or return False."""
        known = self.earlier_result(folder)
        if known is None or not self._same_epoch:
            return False
        _, folder.packaged, folder.derived, folder.rows = known
        return True

    def answer(self, memo: Memo, dpkg: DpkgLists) -> bool:
        """Fill *dpkg* with the answer that an earlier probe found, and return whether there is one."""
        if not self._same_epoch or self._memo.get("key") != memo.key:
            return False
        dpkg.missing = {os.fsencode(path): package for path, package in self._memo["missing"].items()}
        for path, (installed, copied, packages, alias) in self._memo["paths"].items():
            raw = os.fsencode(path)
            dpkg.installed[raw], dpkg.copied[raw], dpkg.packages[raw] = installed, copied, packages
            if alias:
                dpkg.listed_as[raw] = os.fsencode(alias)
        return True

    def remember(self, memo: Memo, dpkg: DpkgLists) -> None:
        """Keep the answer for the next probe."""
        self._changed = True
        self._memo = {}
        if memo.is_kept:
            rows = {
                os.fsdecode(path): [
                    time_ns,
                    dpkg.copied[path],
                    dpkg.packages[path],
                    os.fsdecode(dpkg.listed_as.get(path, b"")),
                ]
                for path, time_ns in dpkg.installed.items()
            }
            gone = {os.fsdecode(path): package for path, package in dpkg.missing.items()}
            self._memo = {"key": memo.key, "paths": rows, "missing": gone}

    def earlier_result(self, folder: Folder) -> Any:
        """Return the earlier result for an unchanged directory, of an older database too; None without one."""
        known = self._earlier.get(folder.path)
        return known if known is not None and known[0] == folder.fingerprint else None

    def keep(self, folder: Folder) -> None:
        """Keep the result for *folder*, unless one of its files has changed just now or was not dpkg."""
        if folder.newest_ns > self._settled_ns or folder.status.st_dev not in self._devices or folder.pending:
            self._changed |= folder.path in self._earlier
            return
        result = self._earlier.get(folder.path)
        if not (self._same_epoch and result and result[0] == folder.fingerprint):
            result = [folder.fingerprint, folder.packaged, folder.derived, folder.rows]
            self._changed = True
        self._current[folder.path] = result

    def save(self) -> None:
        if self._devices and self._changed:
            content: Any = {"epoch": self._epoch, "folders": self._current, "memo": self._memo}
            attempt(digest_cache.write, self._path, content, self._salt)


def epoch(root: str) -> list[Any]:
    """Return the state of dpkg's database, which each change of a package changes."""
    paths = (DPKG_INFO, DPKG_STATUS, "/var/lib/dpkg/diversions", UCF)
    statuses = [os.stat(root + path) if os.path.exists(root + path) else None for path in paths]
    return [CACHE_FORMAT, *[status and [status.st_ino, status.st_mtime_ns, status.st_ctime_ns] for status in statuses]]
