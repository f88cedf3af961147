"""A placeholder for a secret whose value is unknown, and the redactor of known secrets."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import NoReturn

PLACEHOLDER = "[secret]"
UNKNOWN_SECRET_HELP = "Run the command where it can read the secrets of the stack"
"""The help in a diagnostic about a secret whose value is unknown to the command."""


class UnknownSecret:
    """A secret whose value is unknown on this computer: it is true, and any other use of it raises SecretAccessed.

    A result that is computed with UnknownSecret therefore does not depend on the value.
    """

    class SecretAccessed(Exception):
        """An expression used the value of an unknown secret."""

    def __bool__(self) -> bool:
        return True

    def _raise_accessed(self, *others: object) -> NoReturn:
        raise UnknownSecret.SecretAccessed

    def __getattr__(self, name: str) -> NoReturn:
        raise UnknownSecret.SecretAccessed

    __str__ = __repr__ = __format__ = __hash__ = _raise_accessed
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _raise_accessed
    __len__ = __iter__ = __contains__ = __getitem__ = _raise_accessed
    __int__ = __float__ = __index__ = __add__ = __radd__ = __mul__ = __mod__ = _raise_accessed


class Redactor:
    """Removes secrets from texts: each value as it is, by line, as in JSON, and in base64 at any offset."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, forms))) if forms else None

    def __call__(self, text: str) -> str:
        return self._pattern.sub(PLACEHOLDER, text) if self._pattern else text


SHORTEST = 6
"""Characters that a form of a secret has at least: shorter forms occur in unrelated texts."""


def _forms(value: str) -> Iterator[str]:
    parts = (value, " ".join(value.split()), *value.splitlines())
    for part in (part.strip() for part in parts):
        for form in (part, json.dumps(part)[1:-1], repr(part)[1:-1], *_base64(part.encode())):
            if len(form) >= SHORTEST:
                yield form


def _base64(data: bytes) -> Iterator[str]:
    """Yield the base64 forms of *data* inside a longer text: *data* begins at one of three offsets of a group."""
    yield base64.b64encode(data).decode()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + data).decode()
        after = (before + len(data)) % 3
        # the first and the last group also hold bits of the bytes around *data*
        yield encoded[(0, 2, 3)[before] : len(encoded) - (0, 3, 2)[after]]
