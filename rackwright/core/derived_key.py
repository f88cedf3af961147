"""Keys that follow from a secret of the fleet, so that each of their users can compute them again."""

import hmac
import json

from rackwright.core.repository import Repository


def derive_key(repository: Repository, secret: str, purpose: list[str]) -> str | None:
    """Return the key for *purpose* that follows from the secret of that name; None if it is not known here."""
    value = repository.secrets.get(secret)
    return None if value is None else hmac.digest(value.encode(), json.dumps(purpose).encode(), "sha256").hex()
