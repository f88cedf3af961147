"""API keys, and what each of them may do. Keys are random and long, so that a plain digest of one gives nothing away.

    python -m workloads.serving.keys NAME --scopes infer,read      a new key, shown once, and the line for the file

A file of keys is a JSON list of {"name": …, "sha256": …, "scopes": […]}.
"""

import hashlib
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.serving.model import Strict

Scope = Literal["infer", "read", "metrics"]
"""Ask the model; read what it is; read figures."""


class Key(Strict):
    name: str = Field(min_length=1)
    """Who has it, as the log says it."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)


class Keys:
    """Those who may ask. Without any, everybody may do everything."""

    def __init__(self, keys: Sequence[Key] | None) -> None:
        self._keys = None if keys is None else {key.sha256: key for key in keys}

    @property
    def wanted(self) -> bool:
        return self._keys is not None

    def of(self, authorization: str) -> Key | None:
        """Return the key that the header *authorization* (``Bearer KEY``) has, if it is one of ours.

        It is found by its digest: how long that takes says nothing about a key.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or self._keys is None:
            return None
        return self._keys.get(_digest(token.strip()))


def read(path: Path) -> Keys:
    """Return the keys in the file *path*.

    Raises:
        WorkloadError: it cannot be read, or two keys in it are one.
    """
    try:
        keys = TypeAdapter(tuple[Key, ...]).validate_json(path.read_bytes())
    except OSError as error:
        raise WorkloadError(str(path), f"got {error.strerror}", "keys are read from a file", "Mend its path") from error
    except ValidationError as error:  # its texts would show what stands there
        wrong = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'as a whole'}: {p['msg']}" for p in error.errors())
        fix = "Begin with what `python -m workloads.serving.keys` prints"
        raise WorkloadError(str(path), f"got {wrong}", "it is a JSON list of keys", fix) from None
    if len({key.sha256 for key in keys}) < len(keys):
        raise WorkloadError(str(path), "got one key twice", "each has one name", "Take one out")
    return Keys(keys)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.keys", __doc__)
    parser.add_argument("name", help="who gets it, as the log will say it")
    parser.add_argument("--scopes", default="infer,read", help="of infer, read and metrics; infer,read where left out")
    given = parser.parse_args(argv)
    scopes = given.scopes.split(",")
    if wrong := [scope for scope in scopes if scope not in get_args(Scope)]:
        print(WorkloadError("--scopes", f"got {', '.join(wrong)}", f"scopes are {', '.join(get_args(Scope))}",
                            "Mend it"), file=sys.stderr)  # fmt: skip
        return 2
    token = secrets.token_urlsafe(32)
    print(f"key, shown this once: {token}", file=sys.stderr)
    print(json.dumps({"name": given.name, "sha256": _digest(token), "scopes": scopes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
