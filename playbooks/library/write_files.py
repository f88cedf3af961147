#!/usr/bin/python
"""Write all files of a role in one run of a module: a loop over ansible.builtin.copy starts two for each file."""

from __future__ import annotations

import base64
import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: write_files
short_description: Write complete files
description: Writes each file that differs, in the order of the list; a file that fails ends the module.
options:
  files:
    description: The files. Each directory has to exist; a link in the place of a file is replaced.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {type: path, required: true, description: Absolute path.}
      content: {type: str, required: true, description: The content in Base64. Ansible never shows it.}
      owner: {type: str, required: true, description: Name of the owner.}
      group: {type: str, required: true, description: Name of the group.}
      mode: {type: str, required: true, description: Mode as an octal number.}
      secret: {type: bool, default: false, description: Whether the difference of the content is hidden.}
      binary: {type: bool, default: false, description: Whether the content is no text.}
  validate:
    description: Command that checks a file before it is in place, by the path or directory of the file.
    type: dict
    default: {}
"""
RETURN = """
paths: {type: list, elements: str, returned: always, description: Paths of the files that changed.}
"""
FILE = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True, "no_log": True},
    "owner": {"type": "str", "required": True},
    "group": {"type": "str", "required": True},
    "mode": {"type": "str", "required": True},
    "secret": {"type": "bool", "default": False, "no_log": False},
    "binary": {"type": "bool", "default": False},
}
SPEC = {
    "files": {"type": "list", "elements": "dict", "required": True, "options": FILE},
    "validate": {"type": "dict", "default": {}},
}


def main() -> None:
    module = AnsibleModule(SPEC, supports_check_mode=True)
    changed: list[str] = []
    differences: list[dict[str, str]] = []
    path = Path()
    try:
        for file in module.params["files"]:
            path, content = Path(file["path"]), base64.b64decode(file["content"])
            owner = (pwd.getpwnam(file["owner"]).pw_uid, grp.getgrnam(file["group"]).gr_gid)
            wanted = (content, int(file["mode"], 8), *owner)
            found = read(path)
            if found == wanted:
                continue
            if not module.check_mode:
                write(module, path, *wanted)
            changed.append(str(path))
            if not file["secret"] and not file["binary"]:
                differences.append(difference(path, found[0], content))
    except (OSError, KeyError, ValueError) as error:
        module.fail_json(msg=f"{path}: {error}", changed=bool(changed), paths=changed)
    module.exit_json(changed=bool(changed), paths=changed, diff=differences)


def read(path: Path) -> tuple[Any, ...]:
    """Return content, mode, owner and group of *path*; only the content b"" if it is no regular file."""
    if not path.is_file() or path.is_symlink():
        return (b"",)
    found = path.stat()
    return (path.read_bytes(), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def write(module: AnsibleModule, path: Path, content: bytes, mode: int, owner: int, group: int) -> None:
    """Replace *path* at once by a file that is complete, and that the command of its path or directory accepts."""
    handle, name = tempfile.mkstemp(prefix=".ansible_tmp_", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchown(file.fileno(), owner, group)
            os.fchmod(file.fileno(), mode)
        validate(module, path, temporary)
        temporary.replace(path)
    finally:
        if temporary.exists():
            temporary.unlink()


def validate(module: AnsibleModule, path: Path, temporary: Path) -> None:
    commands = module.params["validate"]
    if command := commands.get(str(path)) or commands.get(str(path.parent)):
        status, _, stderr = module.run_command(command % temporary)
        if status != 0:
            raise ValueError(f"failed to validate with `{command}`: {stderr.strip()}")


def difference(path: Path, before: bytes, after: bytes) -> dict[str, str]:
    texts = {"before": before.decode(errors="replace"), "after": after.decode(errors="replace")}
    return {"before_header": str(path), "after_header": str(path), **texts}


if __name__ == "__main__":
    main()
