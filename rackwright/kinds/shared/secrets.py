"""What holds the place of a secret that is not known here, and what takes known ones out of a text."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import NoReturn

HIDDEN = "[secret]"


class UnknownSecret:
    """A secret whose value nobody here knows: that there is one can be asked, and whatever else is asked is an error.

    So what can be told with it in the value's place does not depend on the value.
    """

    class SecretAccessed(Exception):
        """Somebody wanted to know the value."""

    def __bool__(self) -> bool:
        return True

    def _opened(self, *others: object) -> NoReturn:
        raise UnknownSecret.SecretAccessed

    def __getattr__(self, name: str) -> NoReturn:
        raise UnknownSecret.SecretAccessed

    __str__ = __repr__ = __format__ = __hash__ = _opened
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _opened
    __len__ = __iter__ = __contains__ = __getitem__ = _opened
    __int__ = __float__ = __index__ = __add__ = __radd__ = __mul__ = __mod__ = _opened


class Redactor:
    """Takes secrets out of texts: each value as it is, by its lines, as JSON has it, and in base64 at any place."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, forms))) if forms else None

    def __call__(self, text: str) -> str:
        return self._known.sub(HIDDEN, text) if self._known else text


SHORTEST = 6
"""Characters of a form: less is found in texts that have nothing to do with it."""


def _forms(value: str) -> Iterator[str]:
    parts = (value, " ".join(value.split()), *value.splitlines())
    for part in (part.strip() for part in parts):
        for form in (part, json.dumps(part)[1:-1], repr(part)[1:-1], *_base64(part.encode())):
            if len(form) >= SHORTEST:
                yield form


def _base64(data: bytes) -> Iterator[str]:
    """Yield how *data* shows in the base64 of whatever it stands in: it begins at one of three places of a group."""
    yield base64.b64encode(data).decode()
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + data).decode()
        after = (before + len(data)) % 3
        # the first and the last group also hold bits of what stands around it
        yield coded[(0, 2, 3)[before] : len(coded) - (0, 3, 2)[after]]
