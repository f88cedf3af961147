"""Certificates of an authority that follows from a secret of the fleet; equal declarations give equal bytes.

The keys are those of Ed25519, whose signatures have no random part. The authority, the keys and the certificates of a
host are computed again wherever the secret is known, so that no file with a key travels between computers.
"""

import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from rackwright.schema.formats import parse_address

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Use = Literal["server", "client"]
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The end of a certificate without one: another secret replaces all of them. Source: RFC 5280, 4.1.2.5."""
AUTHORITY = "rackwright authority"


def derived_authority(secret: str) -> str:
    """Return the certificate of the authority that follows from *secret*, in PEM."""
    return _pem(_authority(secret))


def derived_key(secret: str, name: str, use: Use) -> str:
    """Return the private key of *name* for one *use*, in PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return _key(secret, f"{use} {name}").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def derived_public_key(secret: str, name: str, use: Use) -> bytes:
    """Return the public key of *name* for one *use*, 32 bytes."""
    return _key(secret, f"{use} {name}").public_key().public_bytes_raw()


def derived_public_key_pem(secret: str, name: str, use: Use) -> str:
    """Return the public key of *name* for one *use*, in PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _key(secret, f"{use} {name}").public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@lru_cache(maxsize=1024)
def derived_certificate(secret: str, name: str, use: Use, addresses: tuple[str, ...] = ()) -> str:
    """Return the certificate of *name*, in PEM, signed by the authority of *secret*.

    Args:
        use: The only purpose of the certificate, so that a server cannot pass for a client.
        addresses: IP addresses of a server, by which its clients reach it.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    purpose = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}[use]
    names: list[x509.GeneralName] = [x509.IPAddress(parse_address(address)) for address in addresses]
    builder = _builder(secret, name, _key(secret, f"{use} {name}"), [use, *addresses])
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _pem(builder.sign(_key(secret, AUTHORITY), None))


@lru_cache(maxsize=8)
def _authority(secret: str) -> "x509.Certificate":
    from cryptography import x509

    key = _key(secret, AUTHORITY)
    builder = _builder(secret, AUTHORITY, key, [])
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(key, None)


def _builder(secret: str, name: str, key: "Ed25519PrivateKey", parts: Iterable[str]) -> "x509.CertificateBuilder":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def subject(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    serial = int.from_bytes(_digest(secret, "\0".join(["serial", name, *parts]))[:16], "big") >> 1
    builder = x509.CertificateBuilder().subject_name(subject(name)).issuer_name(subject(AUTHORITY))
    builder = builder.public_key(key.public_key()).serial_number(serial or 1)
    builder = builder.not_valid_before(BEGIN).not_valid_after(END)
    identifier = x509.SubjectKeyIdentifier.from_public_key
    builder = builder.add_extension(identifier(key.public_key()), critical=False)
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(_key(secret, AUTHORITY).public_key())
    return builder.add_extension(own, critical=False)


def _key(secret: str, purpose: str) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(_digest(secret, f"key {purpose}"))


def _digest(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode(), f"certificates {purpose}".encode(), "sha256")


def _pem(certificate: "x509.Certificate") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()
