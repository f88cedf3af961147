"""Chains of verdicts for tests, signed by a key of the test."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rackwright.core.sshsig import signed_bytes
from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.hosts import verdicts
from rackwright.quarantine.chain import NAMESPACE, NO_HASH, Verdict, format_line
from rackwright.stack import Stack

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
FOREIGN_KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
RECEIVER = "service-01"
HOSTS = ["gpu-01", "gpu-02", RECEIVER]


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


class Monitor:
    """Hosts with a monitoring host alone, whose program prints *lines*."""

    def __init__(self, *lines: bytes) -> None:
        self.lines, self.status, self.is_off = [*lines], 0, False
        self.calls: list[tuple[tuple[str, ...], bytes]] = []

    def connection(self, host: str) -> "Monitor":
        assert host == RECEIVER
        if self.is_off:
            raise HostUnreachable(Diagnostic(host, "no answer"))
        return self

    def run(self, argv: Sequence[str], stdin: bytes = b"") -> Any:
        self.calls.append((tuple(argv), stdin))
        return SimpleNamespace(status=self.status, stdout=b"".join(self.lines), stderr="it failed\n")


def rack(project: Path, twin: str | None = None, uses: str | None = None, secrets: Any = None) -> Stack:
    variables = {"hosts": HOSTS, "share_percent": 50, "key": {"secret": "monitoring_key"}}
    roles: dict[str, Any] = {RECEIVER: {verdicts.ROLE: variables}}
    fleet = SimpleNamespace(hosts={name: SimpleNamespace(roles=roles.get(name, {})) for name in HOSTS}, uses=uses)
    stack = SimpleNamespace(
        name="rack",
        project=project,
        twin=twin,
        fleet=fleet,
        fleet_file=project / "stacks" / "hospital" / ("serving.yaml" if uses else "fleet.yaml"),
        repository=SimpleNamespace(secrets=secrets or {}),
    )
    stack.verdicts = Stack.verdicts.fget(stack)  # type: ignore[attr-defined]
    return cast(Stack, stack)
