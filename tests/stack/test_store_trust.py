"""The notice about a store of the fleet itself whose certificate no computer trusts by itself."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.schema.fleet import Fleet
from rackwright.stack import load_stack
from rackwright.stack.store_trust import trust_notices
from tests.support.our_roles import ROOT

NOTICE = (
    "object_stores.archive has no `ca`, and no computer trusts the certificate of service-01 by itself: write `ca` with"
    " the same certificate as hosts.service-01.roles.object_store."
)
FLEET = load_stack("hospital", ROOT).fleet


@dataclass(frozen=True)
class Signed:
    name: x509.Name
    text: str


def certificate(name: str, issuer: Signed | None = None) -> Signed:
    """Return a certificate of *issuer*, or one that signs itself."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    by = issuer.name if issuer else subject
    made = x509.CertificateBuilder(by, subject, key.public_key(), 1, now, now + timedelta(1)).sign(key, SHA256())
    return Signed(subject, made.public_bytes(Encoding.PEM).decode())


OWN = certificate("own authority")
SIGNED = certificate("store", OWN)
SELF_SIGNED = certificate("store")
OF_OTHERS = certificate("store", certificate("authority of a company"))


def with_store(role: dict[str, Any], url: str = "https://10.61.0.13:8333", ca: str | None = None) -> Fleet:
    """Return the fleet of the hospital with other variables of its store, and another endpoint."""
    host = FLEET.hosts["service-01"]
    roles = {**host.roles, "object_store": {**(host.roles["object_store"] or {}), **role}}
    store = FLEET.object_stores["archive"].model_copy(update={"url": url, "ca": ca})
    hosts = {**FLEET.hosts, "service-01": host.model_copy(update={"roles": roles})}
    return FLEET.model_copy(update={"hosts": hosts, "object_stores": {"archive": store}})


@pytest.mark.parametrize(
    ("role", "found"),
    [
        ({"certificate": SIGNED.text, "authority": OWN.text}, f"{NOTICE}authority"),
        ({"certificate": SELF_SIGNED.text, "authority": OWN.text}, f"{NOTICE}certificate"),
        (
            {"certificate": SIGNED.text, "authority": OWN.text, "address": "10.0.0.1", "gateway": "10.61.0.13"},
            f"{NOTICE}authority",
        ),
        ({"certificate": OF_OTHERS.text, "authority": OWN.text}, None),
        ({"certificate": SIGNED.text, "authority": OWN.text, "address": "10.0.0.1"}, None),
        ({"certificate": "no certificate", "authority": OWN.text}, None),
    ],
)
def test_a_store_of_the_fleet_with_a_certificate_of_its_own_needs_ca(role, found):
    assert [*trust_notices(with_store(role))] == ([] if found is None else [found])


def test_a_store_with_ca_or_elsewhere_has_no_notice():
    role = {"certificate": SIGNED.text, "authority": OWN.text}

    assert [*trust_notices(with_store(role, ca=OWN.text))] == []
    assert [*trust_notices(with_store(role, url="https://store.example"))] == []
    assert [*trust_notices(FLEET)] == [], "the example has it"


def test_check_prints_the_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from rackwright.stack import feasible

    loaded = load_stack("hospital", ROOT)
    monkeypatch.setattr("rackwright.stack.load_stack", lambda *_: loaded)
    monkeypatch.setattr(feasible, "check", lambda stack: ())
    monkeypatch.setattr("rackwright.stack.store_trust.trust_notices", lambda fleet: ["a notice"])

    shown = CliRunner().invoke(app, ["check", "hospital"])

    assert "note: a notice" in shown.output
