"""Chains of verdicts for tests, signed by a key of the test."""

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rackwright.core.sshsig import signed_bytes
from rackwright.quarantine.chain import NAMESPACE, NO_HASH, Verdict, format_line

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
FOREIGN_KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
RECEIVER = "service-01"


def public(key: Ed25519PrivateKey = KEY) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def began(host: str, cause: str = "GpuLost", detail: str = "") -> Verdict:
    return Verdict(RECEIVER, 0, NO_HASH, "2026-12-04T04:00:00Z", "began", host, cause, detail)


def ended(host: str) -> Verdict:
    return Verdict(RECEIVER, 0, NO_HASH, "2026-12-04T05:00:00Z", "ended", host, reason="a new GPU")


def sign(verdict: Verdict, key: Ed25519PrivateKey = KEY, namespace: str = NAMESPACE) -> bytes:
    return format_line(verdict, key.sign(signed_bytes(verdict.content, namespace)))


def link(*verdicts: Verdict) -> list[Verdict]:
    """Return *verdicts* as a chain: with their numbers, and each with the hash of the one before."""
    linked: list[Verdict] = []
    for number, verdict in enumerate(verdicts):
        linked.append(replace(verdict, number=number, previous=linked[-1].hash if linked else NO_HASH))
    return linked


def chain(*verdicts: Verdict) -> list[bytes]:
    """Return the signed lines of *verdicts*."""
    return [sign(verdict) for verdict in link(*verdicts)]
