"""Secrets in a declaration: a reference stands where the value would, and the value lives in Pulumi's configuration."""

import hmac
import json
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from rackwright.errors import DeclarationError, DeclarationErrors
from rackwright.schema import reference
from rackwright.schema.problem import Keys, Problem

CONFIG_KEY = "rackwright:secrets"
"""Of a stack's settings: a mapping with each value by its name, every one encrypted by itself."""
NAME = r"[a-z][a-z0-9_]*"
NAME_MAX = 63
SCHEMA = {
    "type": "object",
    "properties": {"secret": {"type": "string", "pattern": f"^{NAME}$", "maxLength": NAME_MAX}},
    "required": ["secret"],
    "additionalProperties": False,
}
"""Of a reference, as JSON Schema."""
SHORTEST = 8
"""Characters of a value: a shorter one can be guessed, and could not be told from other text where it is hidden."""
LAB_PASSPHRASE = "rackwright-lab"
"""Published on purpose: what it encrypts is the twin's. A real rack's stack gets its own."""


def name_of(value: Any) -> Any:
    """Return the name in ``{secret: NAME}``, whatever was written there; None where *value* is no reference."""
    return reference.name_of(value, "secret")


def references(value: Any) -> Iterator[tuple[Keys, Any]]:
    """Yield each reference in *value*: where it stands, and the name in it."""
    return reference.references(value, "secret")


def fill(value: Any, value_of: Callable[[str], Any]) -> Any:
    """Return *value* with what *value_of* gives for a name in the place of each reference."""
    return reference.fill(value, "secret", value_of)


def placeholder(name: str) -> str:
    """Return the text that stands for the value wherever it does not matter, or must not be seen."""
    return f"the secret {name}"


def setting_command(stack: str, name: str) -> str:
    """Return the command that sets the value; it asks for it, so that no command line holds it."""
    return f"pulumi config set --stack {shlex.quote(stack)} --secret --path {CONFIG_KEY}.{name}"


def name_problem(name: Any) -> Problem | None:
    """Return what is wrong with *name* as the name of a secret."""
    if isinstance(name, str) and re.fullmatch(NAME, name) and len(name) <= NAME_MAX:
        return None
    near = re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_0123456789")[:NAME_MAX]
    want = f"the name of a secret has small letters, digits and _ after a letter, {NAME_MAX} at most"
    fix = f"Write {{secret: {near}}}" if near else "Write it like {secret: registry_password}"
    return Problem(f"got the secret {name!r}", want, fix)


def _key(value: dict[str, Any]) -> dict[str, Any]:
    name = name_of(value)
    if name is None:
        fix = "Write {secret: NAME}, and set its value with pulumi"
        raise Problem("got a value", "what keys are made of is a secret, and stands here by its name", fix)
    if problem := name_problem(name):
        raise problem
    return value


Key = Annotated[dict[str, Any], AfterValidator(_key), WithJsonSchema(SCHEMA)]
"""A reference, where nothing else may stand."""


def derive_value(name: str) -> str:
    """Return the value that a secret has on a twin where nobody has set one: as published as its passphrase."""
    return hmac.digest(LAB_PASSPHRASE.encode(), name.encode(), "sha256").hex()


def parse_values(text: str, stack: str) -> dict[str, str]:
    """Return the values by name, of what Pulumi hands out as the value of ``rackwright:secrets``.

    Raises:
        DeclarationErrors: values that cannot be secrets; says which, and nothing of what they are.
    """
    values: dict[str, Any] = json.loads(text) if text else {}
    wrong = []
    for name, value in values.items():
        if not isinstance(value, str) or len(value) < SHORTEST:
            got = f"got {len(value)} characters" if isinstance(value, str) else f"got a {type(value).__name__}"
            want = f"a secret is a text of {SHORTEST} characters or more"
            wrong.append(DeclarationError(f"{CONFIG_KEY}.{name}", got, want, f"Run `{setting_command(stack, name)}`"))
    if wrong:
        raise DeclarationErrors(wrong)
    return values
