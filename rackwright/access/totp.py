"""A person's second factor: a secret, as the PAM module of hosts keeps it and as an authenticator takes it."""

import base64
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

DIRECTORY = "/var/lib/totp"
"""On hosts; a file for each person, which the module writes anew at each login."""
SECRET_BYTES = 20
"""What HMAC-SHA-1 takes whole. Source: RFC 4226, section 4, R6."""
EMERGENCY_CODES = 5
OPTIONS = ("RATE_LIMIT 3 30", "WINDOW_SIZE 3", "DISALLOW_REUSE", "TOTP_AUTH")
"""Three tries in 30 s; for clocks that differ, the code before and the code after will do; each lets in once."""


KEY = re.compile(r"[A-Z2-7]{26,64}")
"""A key in base32 without padding: 128 bits at least. Source: RFC 4226, section 4, R6."""


@dataclass(frozen=True)
class Secret:
    """What a person and the hosts have in common."""

    key: str = field(repr=False)
    """In base32, as authenticators take it."""
    emergency: tuple[str, ...] = field(repr=False)
    """Codes of eight digits, each good for one login on each host, for who has lost the authenticator."""

    @staticmethod
    def of_file(text: str) -> "Secret | None":
        """Return a secret with the key of a host's file alone; None where the first line is no key.

        The options are rackwright's, and emergency codes are left out: a host that was taken over could have relaxed
        the options and added codes of its own.
        """
        key = text.partition("\n")[0]
        return Secret(key, ()) if KEY.fullmatch(key) else None

    @staticmethod
    def new() -> "Secret":
        key = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()
        # the module takes no leading zero. Source: google-authenticator's FILEFORMAT
        return Secret(key, tuple(str(10**7 + secrets.randbelow(9 * 10**7)) for _ in range(EMERGENCY_CODES)))

    @property
    def text(self) -> str:
        """The file that the PAM module reads."""
        return "\n".join([self.key, *(f'" {option}' for option in OPTIONS), *self.emergency, ""])

    def uri(self, person: str, issuer: str) -> str:
        """Return what the QR code says."""
        label = quote(f"{issuer}:{person}", safe="")
        return f"otpauth://totp/{label}?{urlencode({'secret': self.key, 'issuer': issuer}, quote_via=quote)}"


def path(person: str) -> str:
    """Return where hosts keep the secret of *person*."""
    return f"{DIRECTORY}/{person}"
