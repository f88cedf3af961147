"""The SSH keys of a run, derived from one secret, so that each key is stored only on the host that uses it."""

import base64
import hashlib
import hmac


def private(secret: str, *purpose: str) -> str:
    """Return the Ed25519 private key for *purpose* in OpenSSH's format; equal arguments give equal keys.

    Source: PROTOCOL.key of OpenSSH. OpenSSH draws the two check numbers at random; here they follow from the key.
    """
    seed = _seed(secret, purpose)
    public = _public(seed)
    check = hashlib.sha256(b"check" + seed).digest()[:4]
    head = b"openssh-key-v1\0" + _text(b"none") + _text(b"none") + _text(b"") + (1).to_bytes(4, "big")
    body = check * 2 + _text(b"ssh-ed25519") + _text(public) + _text(seed + public) + _text(b"")
    body += bytes(range(1, (-len(body)) % 8 + 1))
    encoded = base64.b64encode(head + _text(_blob(public)) + _text(body)).decode()
    lines = (encoded[start : start + 70] for start in range(0, len(encoded), 70))
    return "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", ""])


def public(secret: str, *purpose: str) -> str:
    """Return the public key for *purpose* as in authorized_keys: ``ssh-ed25519 AAAA…``."""
    return f"ssh-ed25519 {base64.b64encode(_blob(_public(_seed(secret, purpose)))).decode()}"


def _seed(secret: str, purpose: tuple[str, ...]) -> bytes:
    # each word has its length in front: two purposes never give the same bytes
    message = b"".join(_text(word.encode()) for word in ("rackwright training run", *purpose))
    return hmac.digest(secret.encode(), message, "sha256")


def _public(seed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _blob(public: bytes) -> bytes:
    return _text(b"ssh-ed25519") + _text(public)


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
