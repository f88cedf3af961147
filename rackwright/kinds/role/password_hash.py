"""Hashes of passwords for the files of servers; equal declarations give equal hashes."""

import base64
import hashlib
import hmac
import stringprep
import unicodedata
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


ITERATIONS = 4096
"""Rounds of a SCRAM verifier. Source: PostgreSQL, scram_iterations, whose default this is."""


@lru_cache(maxsize=256)
def scram_verifier(password: str, account: str, key: bytes) -> str:
    """Return the verifier of SCRAM-SHA-256 that PostgreSQL stores for *password*. Source: RFC 5803.

    The salt follows from *account* and *key*, as in `bcrypt_hash`.

    Args:
        account: Name of the account, unique among all servers.
        key: A key that belongs to the stack.
    """
    salt = hmac.digest(key, f"scram {account}".encode(), "sha256")[:16]
    salted = hashlib.pbkdf2_hmac("sha256", prepare_password(password).encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    parts = [base64.b64encode(part).decode() for part in (salt, stored, hmac.digest(salted, b"Server Key", "sha256"))]
    return f"SCRAM-SHA-256${ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"


def prepare_password(password: str) -> str:
    """Return *password* as clients of PostgreSQL prepare it: by SASLprep, or unchanged if SASLprep refuses it.

    Source: RFC 4013; PostgreSQL, src/common/saslprep.c.
    """
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(each) else each for each in password if not stringprep.in_table_b1(each)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    right, left = (any(map(in_table, prepared)) for in_table in (stringprep.in_table_d1, stringprep.in_table_d2))
    ends_right = prepared and all(map(stringprep.in_table_d1, (prepared[0], prepared[-1])))
    refused = any(is_refused(each) for each in prepared for is_refused in _REFUSED)
    return password if refused or not prepared or (right and (left or not ends_right)) else prepared


_REFUSED = (
    stringprep.in_table_a1, stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3,
    stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7,
    stringprep.in_table_c8, stringprep.in_table_c9,
)  # fmt: skip
"""Characters that SASLprep refuses. Source: RFC 4013, sections 2.3 and 2.5."""
