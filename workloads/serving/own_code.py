"""Code of a model's own, which runs in vLLM only if the server names the digest of all of its files.

The digest is over the names and the sha256 of the Python files beside the model. A person who has read them publishes
the model with it, and declares it for the server. A changed, missing or additional file gives another digest.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk
from workloads.errors import Diagnostic, UserError
from workloads.foreign import open_regular
from workloads.serving.model import DamagedModel, Model

SUFFIX = ".py"
LOCAL = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
"""A class of a file beside the model; a name with ``--`` is one of another repository."""


def code_files(directory: Path) -> list[Path]:
    """Return the Python files of the model in *directory*, sorted."""
    return sorted(each for each in directory.iterdir() if each.suffix == SUFFIX)


def code_digest(files: Iterable[Path]) -> str:
    """Return the digest of the names and contents of *files*.

    Raises:
        OSError: a file cannot be read, or is no regular file.
    """
    digests = {}
    for path in files:
        open_regular(path).close()
        digests[path.name] = disk.sha256(path)
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def foreign_classes(config: Mapping[str, Any]) -> list[str]:
    """Return the classes that auto_map of *config* names and that no file beside the model has."""
    named = config.get("auto_map")
    values = named.values() if isinstance(named, dict) else [named]
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return [str(each)[:100] for each in flat if each is not None and not LOCAL.fullmatch(str(each))]


def check_code(directory: Path, model: Model, wanted: str | None) -> bool:
    """Return whether *model*, in *directory*, has code of its own, which is what the server names.

    Args:
        wanted: The digest that the server's settings have.

    Raises:
        UserError: there is code without a digest, a digest without code, or both, and they differ.
        DamagedModel: a file is there that was not published.
    """
    files = code_files(directory)
    names = [path.name for path in files]
    if others := [name for name in names if name not in model.files]:
        problem, help = f"{', '.join(others)} was not published with the model", "Remove it, or use another copy"
        raise DamagedModel(Diagnostic(str(directory), problem, "the files of the model alone", help))
    if not files and wanted is None:
        return False
    if not files:
        problem = "got a digest, and the model has no code of its own"
        raise UserError(Diagnostic("vllm.code_sha256", problem, help="Remove code_sha256"))
    try:
        digest = code_digest(files)
    except OSError as error:
        raise DamagedModel(Diagnostic(str(directory), f"its code cannot be read: {error.strerror}")) from None
    if digest != wanted:
        problem = f"got {wanted or 'no digest'}, and {', '.join(names)} of the model have {digest}"
        help = f"Read these files, and set vllm.code_sha256 to {digest} if the server may run them"
        raise UserError(Diagnostic("vllm.code_sha256", problem, "the digest of the model's own code", help))
    return True
