"""Hashes of passwords for the files of servers; equal declarations give equal hashes."""

import base64
import hmac
from functools import lru_cache

COST = 10
"""Logarithm of the rounds of bcrypt: a hash takes about 60 ms. Source: OWASP, "Password Storage Cheat Sheet"."""
LONGEST = 72
"""Bytes of a password that bcrypt uses."""
_STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OF_BCRYPT = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@lru_cache(maxsize=256)
def bcrypt_hash(password: str, account: str, key: bytes) -> str:
    """Return the bcrypt hash of *password*, as in a file of htpasswd.

    The salt follows from *account* and *key*, so that the hash of an unchanged password is the same again. It does not
    follow from the password: otherwise a fast digest of the password would be in the hash.

    Args:
        account: Name of the account, unique among all servers.
        key: A key that belongs to the stack.
    """
    import bcrypt

    salt = hmac.digest(key, f"bcrypt {account}".encode(), "sha256")[:16]
    encoded = base64.b64encode(salt).rstrip(b"=").translate(bytes.maketrans(_STANDARD, _OF_BCRYPT))
    return bcrypt.hashpw(password.encode()[:LONGEST], f"$2b${COST}$".encode() + encoded).decode()
