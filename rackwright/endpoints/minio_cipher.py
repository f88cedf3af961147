"""The encryption of answers that name users, which MinIO's admin API encrypts under the secret key of the caller.

Source: madmin-go, encrypt.go, and sio-go: a salt, a byte for the cipher, 8 bytes of a nonce, and parts of 16 KiB with
their tags. The associated data of each part has the tag of an empty message, and says whether the part is the last one.
"""

from typing import Any

SALT, NONCE, TAG, PART = 32, 8, 16, 1 << 14
PASSES, LANES, MEMORY_KIB = 1, 4, 64 << 10
"""Costs of Argon2id."""
MORE, LAST = b"\x00", b"\x80"


def decrypt(content: bytes, secret_key: str) -> bytes:
    """Return the text of an encrypted answer.

    Raises:
        ValueError: It was encrypted by another cipher or under another key, or was changed.
    """
    from cryptography.exceptions import InvalidTag

    salt, kind, nonce = content[:SALT], content[SALT : SALT + 1], content[SALT + 1 : SALT + 1 + NONCE]
    parts = content[SALT + 1 + NONCE :]
    if len(nonce) != NONCE or not parts:
        raise ValueError("it is too short")
    cipher = _cipher(kind, secret_key, salt)
    tag = cipher.encrypt(nonce + bytes(4), b"", None)
    size, text = PART + TAG, []
    for number, start in enumerate(range(0, len(parts), size), start=1):
        mark = LAST if start + size >= len(parts) else MORE
        try:
            own = nonce + number.to_bytes(4, "little")
            text.append(cipher.decrypt(own, parts[start : start + size], mark + tag))
        except InvalidTag:
            raise ValueError("it is not encrypted under the secret key of the account") from None
    return b"".join(text)


def encrypt(text: bytes, secret_key: str, salt: bytes, nonce: bytes) -> bytes:
    """Return *text* as MinIO encrypts it under *secret_key*, with 32 bytes of *salt* and 8 of *nonce*."""
    cipher = _cipher(b"\x00", secret_key, salt)
    tag = cipher.encrypt(nonce + bytes(4), b"", None)
    found = [salt, b"\x00", nonce]
    for number, start in enumerate(range(0, max(len(text), 1), PART), start=1):
        mark = LAST if start + PART >= len(text) else MORE
        found.append(cipher.encrypt(nonce + number.to_bytes(4, "little"), text[start : start + PART], mark + tag))
    return b"".join(found)


def _cipher(kind: bytes, secret_key: str, salt: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    sorts = {b"\x00": AESGCM, b"\x01": ChaCha20Poly1305}
    if kind not in sorts:
        raise ValueError("its cipher is not known")
    kdf = Argon2id(salt=salt, length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)
    return sorts[kind](kdf.derive(secret_key.encode()))
