"""Digests that an entry names: of a stack's declaration, of its lock, and of the code that runs."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rackwright import locations

if TYPE_CHECKING:
    from rackwright.stack import Stack

CODE = ("rackwright/**/*", "roles/**/*", "templates/**/*", "playbooks/**/*", "workloads/**/*")
"""Files that decide what is done to a host."""


def of_stack(stack: "Stack") -> dict[str, str]:
    """Return the digests of *stack* and of the code. A declaration has references in the place of secrets."""
    declaration = json.dumps(stack.fleet.model_dump(mode="json"), sort_keys=True)
    lock = {"lock": _digest(stack.lock.text.encode())} if stack.lock else {}
    return {"declaration": _digest(declaration.encode()), **lock, **of_code()}


@cache
def of_code() -> dict[str, str]:
    """Return the digest of the code, and its commit if that is known."""
    root = locations.repository()
    code = locations.PACKAGE if root != locations.PACKAGE.parent else None
    files = {path for pattern in CODE for path in root.glob(pattern)} | set(code.rglob("*.py") if code else ())
    whole = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file() and "__pycache__" not in path.parts):
        whole.update(f"{_name(path, root)}\0{_digest(path.read_bytes())}\n".encode())
    commit = locations.commit()
    return {"code": whole.hexdigest(), **({"commit": commit} if commit else {})}


def _name(path: Path, root: Path) -> Path:
    return path.relative_to(root if path.is_relative_to(root) else locations.PACKAGE.parent)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
