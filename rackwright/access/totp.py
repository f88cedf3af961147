"""Format the secret of a person's second factor for the PAM module of hosts and for an authenticator."""

import base64
import hmac
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

DIRECTORY = "/var/lib/totp"
"""Directory on hosts with a file for each person, which the PAM module rewrites at each login."""
SECRET_BYTES = 20
"""Length of a secret that HMAC-SHA-1 uses in full. Source: RFC 4226, section 4, R6."""
EMERGENCY_CODES = 5
OPTIONS = ("RATE_LIMIT 3 30", "WINDOW_SIZE 3", "DISALLOW_REUSE", "TOTP_AUTH")
"""Three tries in 30 s; the previous and the next code are valid, as clocks differ; each code is valid once."""
CODE_SECONDS = 30
"""Time for which a code is shown. Source: RFC 6238, section 5.2."""

KEY = re.compile(r"[A-Z2-7]{26,64}")
"""A key in base32 without padding, at least 128 bits. Source: RFC 4226, section 4, R6."""


@dataclass(frozen=True)
class Secret:
    """The secret that a person and the hosts share."""

    key: str = field(repr=False)
    """The key in base32, as authenticators read it."""
    emergency: tuple[str, ...] = field(repr=False)
    """Codes of eight digits, each valid for one login on each host, for a person without the authenticator."""

    @staticmethod
    def from_file(text: str) -> "Secret | None":
        """Return a secret with only the key of a host's file; None if the first line is not a key.

        The options are rackwright's own, and the result has no emergency codes: an attacker on a host could have
        relaxed the options there and added codes.
        """
        key = text.partition("\n")[0]
        return Secret(key, ()) if KEY.fullmatch(key) else None

    @staticmethod
    def new() -> "Secret":
        key = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()
        # the module rejects a leading zero. Source: google-authenticator's FILEFORMAT
        return Secret(key, tuple(str(10**7 + secrets.randbelow(9 * 10**7)) for _ in range(EMERGENCY_CODES)))

    @property
    def text(self) -> str:
        """Content of the file that the PAM module reads."""
        return "\n".join([self.key, *(f'" {option}' for option in OPTIONS), *self.emergency, ""])

    def code(self, at: float) -> str:
        """Return the code of six digits that an authenticator shows at the time *at*, in seconds since 1970.

        Source: RFC 6238, section 4; RFC 4226, section 5.3.
        """
        counter = int(at // CODE_SECONDS).to_bytes(8)
        mac = hmac.digest(base64.b32decode(self.key + "=" * (-len(self.key) % 8)), counter, "sha1")
        offset = mac[-1] & 15
        return f"{(int.from_bytes(mac[offset : offset + 4]) & 0x7FFFFFFF) % 10**6:06d}"

    def accepts(self, code: str, at: float) -> bool:
        """Return whether hosts accept *code* at the time *at*: the present code, the one before or the next one."""
        typed = "".join(code.split())  # authenticators show it in two groups
        return typed in {self.code(at + difference) for difference in (-CODE_SECONDS, 0, CODE_SECONDS)}

    def uri(self, person: str, issuer: str) -> str:
        """Return the URI for the QR code."""
        label = quote(f"{issuer}:{person}", safe="")
        return f"otpauth://totp/{label}?{urlencode({'secret': self.key, 'issuer': issuer}, quote_via=quote)}"


def path(person: str) -> str:
    """Return the path of the secret of *person* on hosts."""
    return f"{DIRECTORY}/{person}"
