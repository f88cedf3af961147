"""Read the pinned host keys from a known_hosts file, and refuse any other key."""

import base64
import binascii
import hashlib
from collections.abc import Iterator
from pathlib import Path

from rackwright.errors import ChangeRefused, Diagnostic, SetupError
from rackwright.schema.ssh import Endpoint

WITHOUT_PROOF = "# without-proof"
"""Begin of a line of known_hosts, which the name of a host follows: its snapshots of an older probe are accepted."""


class HostKeyRefused(ChangeRefused):
    """The machine that answered does not hold the pinned key of the host."""

    offered: tuple[str, bytes] | None = None
    """Type and key that the machine proved to hold, where no key is pinned yet."""


def fingerprint(key: bytes) -> str:
    """Return the fingerprint of a public key in the form that ``ssh-keygen -l`` prints."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def pin_name(endpoint: Endpoint) -> str:
    """Return the name under which known_hosts holds *endpoint*: the address, with the port where it is not 22."""
    return endpoint.address if endpoint.port == 22 else f"[{endpoint.address}]:{endpoint.port}"


def accepts_without_proof(endpoint: Endpoint) -> bool:
    """Return whether the file of pins has the line of the operator that snapshots of *endpoint* need no proof."""
    try:
        lines = endpoint.known_hosts.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return f"{WITHOUT_PROOF} {pin_name(endpoint)}" in lines


def pinned_keys(endpoint: Endpoint) -> dict[str, bytes]:
    """Return key type to public key as pinned for *endpoint*; empty where nothing is.

    Raises:
        SetupError: the file cannot be read, or a line of this host is damaged.
    """
    name = pin_name(endpoint)
    try:
        lines = endpoint.known_hosts.read_text().splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(
            Diagnostic(
                str(endpoint.known_hosts),
                f"the file of the pinned host keys cannot be read: {error}",
                help="Make the file readable, in UTF-8",
            )
        ) from None
    return dict(_keys_of(name, lines, endpoint.known_hosts))


def _keys_of(name: str, lines: list[str], path: Path) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(lines, start=1):
        names, _, key = line.partition(" ")
        # lines of @cert-authority and @revoked start with their marker, so they match no name and pin nothing
        if not any(_matches(name, pattern) for pattern in names.split(",")):
            continue
        try:
            key_type, encoded = key.split()[:2]
            yield key_type, base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise SetupError(
                Diagnostic(
                    f"{path}:{number}",
                    f"the line for {name} has no host key",
                    "a line of the form `name type key`",
                    f"Correct the line, or pin the key of {name} again",
                )
            ) from None


def _matches(name: str, pattern: str) -> bool:
    if not pattern.startswith("|1|"):
        return name == pattern
    from paramiko import HostKeys  # ssh hashes names where HashKnownHosts is on, as Debian's default is

    return HostKeys.hash_host(name, pattern) == pattern


def pin(endpoint: Endpoint, key_type: str, key: bytes) -> None:
    """Trust *key* from now on where *endpoint* answers."""
    with endpoint.known_hosts.open("a", encoding="utf-8") as file:
        file.write(f"{pin_name(endpoint)} {key_type} {base64.b64encode(key).decode()}\n")


def check_host_key(endpoint: Endpoint, pinned: dict[str, bytes], key_type: str, key: bytes) -> None:
    """Return where the key that the server proved to hold is a pinned one.

    Raises:
        HostKeyRefused: none is pinned, or another; the message has the fingerprints.
    """
    if pinned.get(key_type) == key:
        return
    shown, where = f"{fingerprint(key)} ({key_type})", f"{endpoint.known_hosts}"
    if not pinned:
        refused = HostKeyRefused(
            Diagnostic(
                endpoint.host,
                f"{pin_name(endpoint)} has the host key {shown}, and {where} has no key for it",
                help="Compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` at the host's console,"
                f" then add its line to {where}",
                note="only pinned keys are trusted; nothing was sent to the host",
                id="host-key-unknown",
            )
        )
        refused.offered = key_type, key
        raise refused
    pins = " and ".join(f"{fingerprint(pin)} ({pin_type})" for pin_type, pin in pinned.items())
    raise HostKeyRefused(
        Diagnostic(
            endpoint.host,
            f"{pin_name(endpoint)} has the host key {shown}, and {where} has {pins}",
            help="If the host was reinstalled, compare the fingerprint at its console, then replace the line",
            note="another machine may be answering; nothing was sent to it",
            id="host-key-changed",
        )
    )
