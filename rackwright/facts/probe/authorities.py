"""The files that trust certificate authorities, as update-ca-certificates makes them from packaged certificates."""

from __future__ import annotations

import base64
import os
import re
from typing import Callable, Iterator

from rackwright.facts.probe.observe import ReadError, read_untrusted

CHOICE = "/etc/ca-certificates.conf"
PACKAGED, LOCAL = "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"
"""Directories of the certificates of packages, and of a person's, which are rows of their own."""
TRUST = "/etc/ssl/certs"
SUFFIX = ".crt"
BUNDLE, JAVA = f"{TRUST}/ca-certificates{SUFFIX}", f"{TRUST}/java/cacerts"
BYTES = 1 << 20
"""Largest certificate and largest list."""
BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")
KEYSTORE, TRUSTED = b"\xfe\xed\xfe\xed\x00\x00\x00\x02", 2
"""Beginning of a Java key store, and the tag of a trusted certificate. Source: OpenJDK, JavaKeyStore.java."""
KEYSTORE_DIGEST = 20

IsPackaged = Callable[[str], bool]


def content(root: str, path: str) -> bytes:
    return read_untrusted(*os.path.split(root + path), BYTES)


def is_choice(root: str, text: bytes, is_packaged: IsPackaged) -> bool:
    """Return whether the list selects all packaged authorities and no other file."""
    lines = [line for line in text.decode("utf-8", "surrogateescape").split("\n") if line and not line.startswith("#")]
    return all(map(is_name, lines)) and sorted(lines) == sorted(packaged_names(root, is_packaged))


def is_name(line: str) -> bool:
    """Return whether *line* is a path below the directory of the packages, without another meaning."""
    parts = line.split("/")
    return not line.startswith(("!", "/")) and not {"", ".", ".."} & {*parts} and line.endswith(SUFFIX)


def packaged_names(root: str, is_packaged: IsPackaged) -> Iterator[str]:
    for name in files_below(root, PACKAGED):
        if is_packaged(f"{PACKAGED}/{name}"):
            yield name


def files_below(root: str, top: str) -> Iterator[str]:
    """Yield the certificates below *top*, as paths below it."""
    for folder, _, names in os.walk(root + top):
        for name in names:
            if name.endswith(SUFFIX):
                yield f"{folder}/{name}"[len(root + top) + 1 :]


def selected_certificates(root: str, is_packaged: IsPackaged) -> Iterator[bytes]:
    """Yield the packaged certificates that the list selects, in its order, each with a newline at its end."""
    for line in content(root, CHOICE).decode("utf-8", "surrogateescape").split("\n"):
        if line and not line.startswith(("#", "!")):
            path = f"{PACKAGED}/{line}"
            if not is_name(line) or not is_packaged(path):
                raise ReadError(f"{CHOICE} selects {line}, which is no packaged certificate")
            yield with_newline(content(root, path))


def with_newline(text: bytes) -> bytes:
    return text if text.endswith(b"\n") else text + b"\n"


def is_bundle(root: str, text: bytes, is_packaged: IsPackaged) -> bool:
    """Return whether the bundle is the selected packaged certificates, then those of the directory of a person.

    The person's files follow in the order of their names, which depends on the language of the caller.
    """
    start = b"".join(selected_certificates(root, is_packaged))
    if not text.startswith(start):
        return False
    left = [with_newline(content(root, f"{LOCAL}/{name}")) for name in files_below(root, LOCAL)]
    text = text[len(start) :]
    while text:
        part = next((part for part in left if part and text.startswith(part)), None)
        if part is None:
            return False
        left.remove(part)
        text = text[len(part) :]
    return not left


def is_keystore(root: str, data: bytes, is_packaged: IsPackaged) -> bool:
    """Return whether Java's key store has the certificates of the bundle, and nothing else."""
    texts = [
        *selected_certificates(root, is_packaged),
        *(content(root, f"{LOCAL}/{name}") for name in files_below(root, LOCAL)),
    ]
    expected = {base64.b64decode(block) for text in texts for block in BLOCK.findall(text)}
    found = {*keystore_certificates(data)}
    return found == expected


def keystore_certificates(data: bytes) -> Iterator[bytes]:
    """Yield the trusted certificates of a Java key store (JKS).

    Raises:
        ReadError: it has another form, or a key.
    """
    if not data.startswith(KEYSTORE):
        raise ReadError("no Java key store of version 2")
    position = len(KEYSTORE)

    def take(size: int) -> bytes:
        nonlocal position
        position += size
        if position > len(data):
            raise ReadError("the Java key store ends too early")
        return data[position - size : position]

    def number(size: int) -> int:
        return int.from_bytes(take(size), "big")

    for _ in range(number(4)):
        if number(4) != TRUSTED:
            raise ReadError("the Java key store has a key")
        take(number(2))  # the name
        take(8)  # the time
        if take(number(2)) != b"X.509":
            raise ReadError("the Java key store has a certificate of another sort")
        yield take(number(4))
    if len(data) - position != KEYSTORE_DIGEST:
        raise ReadError("the Java key store has more than certificates")
