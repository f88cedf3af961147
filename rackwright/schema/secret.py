"""Secrets in a declaration: references by name, with the values in Pulumi's configuration."""

import base64
import binascii
import hmac
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.schema import reference
from rackwright.schema.problem import Keys, Problem

CONFIG_KEY = "rackwright:secrets"
"""Key of a stack's settings with the mapping of secrets by name, each value encrypted by itself."""
NAME = r"[a-z][a-z0-9_]*"
NAME_MAX = 63
SCHEMA = {
    "type": "object",
    "properties": {"secret": {"type": "string", "pattern": f"^{NAME}$", "maxLength": NAME_MAX}},
    "required": ["secret"],
    "additionalProperties": False,
}
"""JSON Schema of a reference."""
SHORTEST = 8
"""Minimum length of a value: a shorter one can be guessed, and looks like other text where it is redacted."""
TIER_KEY_SHORTEST = 20
"""Minimum length of a tier's key: with the fleet's key of digests, shorter ones can be guessed from facts."""
CLIENT_KEY_SHORTEST = 32
"""Minimum length of a client's key of a model server: a shorter one can be guessed from its digest on the host."""
GCM_TAG_BYTES = 16
POSTGRESQL_URL = r"postgresql(\+[a-z0-9]+)?://[^\s@/]+@[^\s/]+/\S+"
LAB_PASSPHRASE = "rackwright-lab"
"""Passphrase of the twin's stack, published on purpose. A real rack's stack has its own passphrase."""


@dataclass(frozen=True)
class Form:
    """The form of secrets whose values a person has: random text cannot take the place of such a value."""

    expected: str
    shortest: int
    """Minimum length in bytes, which shows for an encrypted value too."""
    is_valid: Callable[[str], bool]
    how: str
    """How to give the value, for the end of a sentence; `< FILE` in it belongs to the command."""
    from_file: str = ""
    """Name of a file for the command that sets the value; empty for a value that is typed."""
    is_parsed: bool = True
    """Whether a program parses the value, so that no random text takes its place on a twin."""

    def command(self, stack: str, name: str) -> str:
        """Return the command that sets the secret *name* to such a value."""
        return setting_command(stack, name) + (f" < {self.from_file}" if self.from_file else "")

    def help(self, stack: str, name: str) -> str:
        """Return the action that sets the secret *name*."""
        return f"Run `{self.command(stack, name)}` with {self.how}"

    def problem(self, stack: str, name: str, value: str) -> Problem | None:
        """Return the problem of *value*, which it does not quote; None if the value has this form."""
        if self.is_valid(value):
            return None
        return Problem(f"the value of the secret {name} has another form", self.expected, self.help(stack, name))


def _is_private_key(text: str) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: the key has a passphrase
        return False
    return True


def _is_certificate(text: str) -> bool:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return bool(load_pem_x509_certificates(text.encode()))
    except ValueError:
        return False


WEBHOOK_URL = r"https://[^\s/]\S*|http://(127\.0\.0\.1|\[::1\]|localhost)([:/]\S*)?"
"""An address whose path may be a password: others on the way do not read it."""
FORMS = {
    "private_key": Form(
        "a private key in PEM without a passphrase", 100, _is_private_key, "the key of the certificate", "host.key"
    ),
    "certificate": Form(
        "a certificate in PEM, followed by its intermediate certificates",
        200,
        _is_certificate,
        "the certificate of your authority",
        "host.crt",
    ),
    "postgresql_url": Form(
        "the URL of a PostgreSQL database, like postgresql://user:password@host/name",
        len("postgresql://u@h/d"),
        lambda text: re.fullmatch(POSTGRESQL_URL, text.strip()) is not None,
        "that URL",
    ),
    "url": Form(
        "an address that begins with https://, or with http://127.0.0.1 for a program on the host itself",
        len("https://h"),
        lambda text: re.fullmatch(WEBHOOK_URL, text.strip()) is not None,
        "that address",
    ),
    "issued": Form(
        "the value that its service has already",
        SHORTEST,
        lambda text: True,
        "the value that its service has already",
        is_parsed=False,
    ),
}
"""Forms by the names that `secret_forms` in `meta/claims.yml` of roles has."""


def name_of(value: Any) -> Any:
    """Return NAME of ``{secret: NAME}``, of any type; None if *value* is no reference."""
    return reference.name_of(value, "secret")


def references(value: Any) -> Iterator[tuple[Keys, Any]]:
    """Yield the keys and the name of each reference in *value*."""
    return reference.references(value, "secret")


def fill(value: Any, value_of: Callable[[str], Any]) -> Any:
    """Return *value* with each reference replaced by the result of *value_of* for its name."""
    return reference.fill(value, "secret", value_of)


def placeholder(name: str) -> str:
    """Return the text that replaces the value of the secret *name* where the value is hidden or irrelevant."""
    return f"the secret {name}"


def setting_command(stack: str, name: str) -> str:
    """Return the command that sets the secret *name*; it prompts for the value, which no command line then holds."""
    return f"rackwright secret set {shlex.quote(stack)} {name}"


def generation_command(stack: str) -> str:
    """Return the command that gives random values to the secrets of *stack* that have none."""
    return f"rackwright secret generate {shlex.quote(stack)}"


def name_problem(name: Any) -> Problem | None:
    """Return the problem of *name* as the name of a secret; None if it is valid."""
    if isinstance(name, str) and re.fullmatch(NAME, name) and len(name) <= NAME_MAX:
        return None
    near = re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_0123456789")[:NAME_MAX]
    expected = f"the name of a secret has small letters, digits and _ after a letter, {NAME_MAX} at most"
    help = f"Write {{secret: {near}}}" if near else "Write it like {secret: registry_password}"
    return Problem(f"got the secret {name!r}", expected, help)


def encrypted_bytes(encrypted: str) -> int | None:
    """Return the length of the value in *encrypted*, ``v1:NONCE:CIPHERTEXT`` of pulumi; None for another format.

    AES-GCM keeps the length and appends a tag. Source: pulumi, pkg/secrets and sdk/go/common/resource/config/crypt.go.
    """
    parts = encrypted.split(":")
    if len(parts) != 3 or parts[0] != "v1":
        return None
    try:
        length = len(base64.b64decode(parts[2], validate=True)) - GCM_TAG_BYTES
    except binascii.Error:
        return None
    return length if length >= 0 else None


def length_problem(stack: str, name: str, found: int | None, shortest: int, form: Form | None = None) -> Problem | None:
    """Return the problem of the secret *name* with an encrypted value of *found* bytes.

    The result is None if the value has *shortest* bytes or more, and as many as values of *form* have at least.
    """
    if found is None or found >= max(shortest, form.shortest if form else 0):
        return None
    problem = f"the secret {name} has {found} bytes"
    if form:
        least = max(shortest, form.shortest)
        return Problem(problem, f"{form.expected}, which has {least} or more", form.help(stack, name))
    help = f"Run `{setting_command(stack, name)}` with a longer value"
    return Problem(problem, f"{shortest} characters or more", help)


def missing_problem(stack: str, name: str, form: Form | None, virtual: bool) -> Problem | None:
    """Return the problem of the secret *name* without a value; None if a virtual rack derives a value of it."""
    if virtual and not (form and form.is_parsed):
        return None
    every = f"`{generation_command(stack)}` for all that may be random"
    random = f"Run {every}, or `{setting_command(stack, name)}` for a value of your own"
    help = form.help(stack, name) if form else random
    expected = f"stack {stack} has a value for each secret"
    if virtual and form:
        expected = f"{form.expected}: a virtual rack derives random text alone"
    return Problem(f"got a secret {name} without a value", expected, help)


def _key(value: Any) -> Any:
    """Return the reference *value*, or raise a problem that does not quote it: it may be the secret itself."""
    name = name_of(value)
    if name is None:
        help = "Write {secret: NAME}, and set its value with pulumi"
        raise Problem("got a value", "a key is declared as a reference to a secret", help)
    if problem := name_problem(name):
        raise problem
    return value


Key = Annotated[dict[str, Any], BeforeValidator(_key), WithJsonSchema(SCHEMA)]
"""A reference to a secret, instead of a value."""


def derive_value(name: str) -> str:
    """Return the value of an unset secret on a twin, which is as public as the twin's passphrase."""
    return hmac.digest(LAB_PASSPHRASE.encode(), name.encode(), "sha256").hex()


def parse_values(text: str, stack: str) -> dict[str, str]:
    """Return the secrets by name from *text*, Pulumi's decrypted value of ``rackwright:secrets``.

    Raises:
        DeclarationError: some values cannot be secrets; the errors contain their names and not the values.
    """
    values: dict[str, Any] = json.loads(text) if text else {}
    wrong = []
    for name, value in values.items():
        if not isinstance(value, str) or len(value) < SHORTEST:
            problem = f"got {len(value)} characters" if isinstance(value, str) else f"got a {type(value).__name__}"
            expected = f"a secret is a text of {SHORTEST} characters or more"
            wrong.append(Diagnostic(f"{CONFIG_KEY}.{name}", problem, expected, f"Run `{setting_command(stack, name)}`"))
    if wrong:
        raise DeclarationError(*wrong)
    return values
