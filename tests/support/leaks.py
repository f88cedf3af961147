"""Searches for secrets where they must not appear: plain, encoded, or as a digest that others can compute."""

import base64
import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

DIGESTS = ("md5", "sha1", "sha256", "sha512", "blake2s", "blake2b")
CODED_MIN = 8
"""Least number of base64 characters to search for; shorter texts occur everywhere."""


def forms(secrets: Mapping[str, str], wholes: Iterable[str] = ()) -> dict[str, bytes]:
    """Return the byte strings to search for, by a name that reveals nothing of the secret.

    Args:
        secrets: Values by name.
        wholes: Texts with secrets in them; a digest of such a text is a leak, too.
    """
    texts = {**secrets, **{f"text {number}": text for number, text in enumerate(wholes)}}
    found: dict[str, bytes] = {}
    for name, text in texts.items():
        data = text.encode()
        if name in secrets:
            found[f"{name} in clear"] = data
            found[f"{name} in hex"] = data.hex().encode()
            for place, coded in enumerate(_base64(data)):
                found[f"{name} in base64, from byte {place}"] = coded
        for digest, raw in _digests(data):
            found[f"{digest} of {name}"] = raw.hex().encode()
            found[f"{digest} of {name} in base64"] = base64.b64encode(raw).rstrip(b"=")
    return found


def _base64(data: bytes) -> Iterator[bytes]:
    """Yield the base64 digits that depend on *data* alone, for each position in a longer text."""
    for before in range(3):
        digits = base64.b64encode(bytes(before) + data + bytes(3))
        own = digits[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        assert len(own) >= CODED_MIN
        yield own


def _digests(data: bytes) -> Iterator[tuple[str, bytes]]:
    for name in DIGESTS:
        yield name, hashlib.new(name, data).digest()
    yield "blake2s of 16 bytes", hashlib.blake2s(data, digest_size=16).digest()


def find_forms(data: bytes, wanted: Mapping[str, bytes]) -> list[str]:
    """Return the names of the *wanted* forms that occur in *data*; hex in either case."""
    lowered = data.lower()
    return [name for name, form in wanted.items() if form in data or ("hex" in name and form in lowered)]


def files(*places: Path) -> Iterator[Path]:
    """Yield all files in *places*, without following links."""
    for place in places:
        if place.is_file():
            yield place
        for directory, _, names in os.walk(place):
            paths = (Path(directory, name) for name in names)
            yield from (path for path in paths if path.is_file() and not path.is_symlink())


def leaks(wanted: Mapping[str, bytes], *places: Path) -> list[str]:
    """Return ``PATH: NAME`` for each file in *places* that has one of the *wanted* forms."""
    found = []
    for path in files(*places):
        with contextlib.suppress(OSError):  # the file has vanished
            found += [f"{path}: {name}" for name in find_forms(path.read_bytes(), wanted)]
    return found
