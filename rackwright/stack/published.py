"""The check that no real rack trusts a key or a certificate of the example fleets."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from rackwright import locations
from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.source import Source, format_keys, read
from rackwright.fleet.text_files import with_text_files
from rackwright.schema.fleet import Fleet
from rackwright.schema.problem import Keys, Problem

_SSH = re.compile(r"(?<![\w+/])AAAA[A-Za-z0-9+/]{40,}={0,2}")
"""Public keys of OpenSSH; each begins with the length of its type."""
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")
SSH_KEY, CERTIFICATE = "an SSH key", "a certificate"
HELP = {
    SSH_KEY: "Write the public key of your own authority",
    CERTIFICATE: "Write a certificate of your own authority, and set the private key as a secret",
}
EXPECTED = "a real rack trusts only keys of its owner, as others may have the private keys of the examples"


def fingerprints(text: str) -> dict[str, str]:
    """Return what each public key and each certificate in *text* is, by the fingerprint of its key.

    A certificate counts by its public key: its private key also fits any other certificate for that key.
    """
    found = {}
    for match in _SSH.finditer(text):
        if (content := _decode(match[0])) is not None:
            found[f"ssh {hashlib.sha256(content).hexdigest()}"] = SSH_KEY
    for match in _PEM.finditer(text):
        if (content := _decode("".join(match[1].split()))) is not None:
            found[f"x509 {hashlib.sha256(_public_key(content)).hexdigest()}"] = CERTIFICATE
    return found


@cache
def example_fingerprints() -> dict[str, str]:
    """Return the names of the example fleets, by the fingerprints of their keys and certificates."""
    shipped = locations.repository() / "stacks"
    files = (path for pattern in ("*.yaml", "*.pem") for path in shipped.rglob(pattern))
    paths = sorted(path for path in files if not path.name.startswith("Pulumi."))
    return {
        each: path.relative_to(shipped).parts[0].removesuffix(".yaml")
        for path in paths
        for each in fingerprints(path.read_text(encoding="utf-8"))
    }


def check(path: Path, fleet: Fleet | None) -> None:
    """Check the fleet in the file *path*, and the fleet whose hosts it uses; the target is a real rack.

    Args:
        fleet: The fleet in the file; None if it has errors, so that a Python file shows no values.

    Raises:
        DeclarationError: the fleet has keys or certificates of the example fleets.
    """
    errors = [*_errors(path, fleet)]
    if used := _file_of_hosts(path, fleet):
        errors += _errors(path.with_name(used), None)
    if errors:
        raise DeclarationError(*errors)


def _errors(path: Path, fleet: Fleet | None) -> Iterator[Diagnostic]:
    """Yield an error for each text in the file *path* with a published key."""
    if path.suffix == ".py":
        for keys, problem in _problems((), {} if fleet is None else fleet.model_dump(mode="json")):
            yield problem.at(f"{path}: {format_keys(keys)}")
    elif (source := _read(path)) is not None:
        for keys, problem in _problems((), source.data):
            yield source.error(problem, keys)


def _file_of_hosts(path: Path, fleet: Fleet | None) -> str | None:
    """Return the name of the file with the hosts of the fleet in the file *path*; None for a fleet with its own."""
    if fleet is not None:
        return fleet.uses
    source = None if path.suffix == ".py" else _read(path)
    used = source.data.get("uses") if source else None
    return used if isinstance(used, str) and used == Path(used).name else None


def _read(path: Path) -> Source | None:
    """Return the content of *path*; None for a file that cannot be read, which the loader of the fleet reports."""
    try:
        return with_text_files(read(path))
    except DeclarationError:
        return None


def _problems(keys: Keys, value: Any) -> Iterator[tuple[Keys, Problem]]:
    match value:
        case str():
            found = ((kind, example_fingerprints().get(each)) for each, kind in fingerprints(value).items())
            if known := next(((kind, example) for kind, example in found if example), None):
                kind, example = known
                yield keys, Problem(f"got {kind} of the example {example}", EXPECTED, HELP[kind])
        case dict():
            for key, item in value.items():
                yield from _problems((*keys, key), item)
        case list():
            for index, item in enumerate(value):
                yield from _problems((*keys, index), item)


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _public_key(certificate: bytes) -> bytes:
    """Return the public key of *certificate* in DER; the whole certificate if it cannot be read."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return certificate
