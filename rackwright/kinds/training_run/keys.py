"""The keys of a run: made of one secret, so that none of them is kept anywhere but where it is used."""

import base64
import hashlib
import hmac


def private(secret: str, *purpose: str) -> str:
    """Return an Ed25519 key for *purpose* in OpenSSH's form; the same for the same words.

    Source: PROTOCOL.key of OpenSSH. Its two check numbers are drawn at random there; here they follow from the key.
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
    """Return the public half of that key, as in authorized_keys: ``ssh-ed25519 AAAA…``."""
    return f"ssh-ed25519 {base64.b64encode(_blob(_public(_seed(secret, purpose)))).decode()}"


def _seed(secret: str, purpose: tuple[str, ...]) -> bytes:
    # lengths in front: no two purposes are the same bytes
    words = b"".join(_text(word.encode()) for word in ("rackwright training run", *purpose))
    return hmac.digest(secret.encode(), words, "sha256")


def _public(seed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _blob(public: bytes) -> bytes:
    return _text(b"ssh-ed25519") + _text(public)


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
