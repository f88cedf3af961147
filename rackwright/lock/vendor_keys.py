"""Fetch the public keys of vendors, which the lock keeps: a key counts by its fingerprint, from any sender."""

import http.client
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urljoin

from rackwright import scratch
from rackwright.errors import ChangeRefused, Diagnostic, EndpointUnreachable
from rackwright.foreign import InvalidData, read_bounded
from rackwright.lock.key import GpgFailed, keyring
from rackwright.progress import Progress
from rackwright.schema.catalogue import Vendor
from rackwright.stack import Stack
from rackwright.stack.vendor_keys import uses_of_vendors

KEY_BYTES = 64 << 10
"""Maximum size of a key; those of vendors have about 4 KiB."""
SECONDS = 30
"""Time for one answer."""


def add_vendor_keys(stack: Stack, upgrade: bool, progress: Progress) -> Stack:
    """Return *stack* with the key of each vendor whose packages its hosts install, and with no other one.

    Args:
        upgrade: Fetch keys again that the lock has: the vendor may have prolonged one.

    Raises:
        EndpointUnreachable: neither the declared mirror nor the vendor has sent a key.
        ChangeRefused: the key that was sent has another fingerprint.
    """
    sources: dict[str, tuple[Vendor, list[str]]] = {}
    for use in uses_of_vendors(stack):
        _, urls = sources.setdefault(use.vendor.fingerprint, (use.vendor, []))
        urls.append(_key_url(use.repository, use.vendor))
    keys = {}
    for fingerprint, (vendor, urls) in sources.items():
        known = None if upgrade else stack.vendor_keys.get(fingerprint)
        urls.append(_key_url(vendor.repository, vendor))
        keys[fingerprint] = known or _fetch(vendor, tuple(dict.fromkeys(urls)), progress)
    return replace(stack, vendor_keys=keys)


def _key_url(repository: str, vendor: Vendor) -> str:
    return urljoin(f"{repository.rstrip('/')}/", vendor.key)


def _fetch(vendor: Vendor, urls: tuple[str, ...], progress: Progress) -> str:
    """Return the key of *vendor* in armour from the first of *urls* that sends it."""
    errors, help = [], "Check the address and the connection, or declare repository_key"
    for url in urls:
        progress(f"fetching the key {vendor.fingerprint} from {url}")
        try:
            deadline = time.monotonic() + SECONDS
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 -- a role's format allows http(s)
                text = read_bounded(answer, KEY_BYTES, deadline)
        except (OSError, http.client.HTTPException, InvalidData) as error:
            errors.append(Diagnostic(url, f"the vendor's key was not sent: {error}", help=help))
            continue
        if key := _armour(text, vendor.fingerprint):
            return key
        problem, expected = "the answer is no key, or that of another owner", f"the key {vendor.fingerprint}"
        raise ChangeRefused(Diagnostic(url, problem, expected, "Ask who runs that server, or correct repository"))
    raise EndpointUnreachable(*errors)


def _armour(text: bytes, fingerprint: str) -> str | None:
    """Return the key with *fingerprint* in *text* alone, in armour; None if *text* has no such primary key."""
    with scratch.directory() as directory, keyring() as gpg:
        file = directory / "key"
        file.write_bytes(text)
        try:
            gpg("--import", str(file))
        except GpgFailed:
            return None
        if fingerprint not in _primary_keys(gpg("--with-colons", "--list-keys")):
            return None
        return gpg("--armor", "--export-options", "export-minimal", "--export", fingerprint).strip() + "\n"


def _primary_keys(listing: str) -> Iterator[str]:
    """Yield the fingerprints of primary keys in the output of gpg; the first record after `pub` has it."""
    for match in re.finditer(r"^pub:.*\nfpr:(?:[^:\n]*:){8}([0-9A-F]+):", listing, re.MULTILINE):
        yield match[1]
