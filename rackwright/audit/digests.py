"""Keyed digests of values that depend on secrets, for an audit by an operator without the secrets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.core import contract
from rackwright.core.contract import Claim, UnknownValue
from rackwright.core.wire import decode_want, encode
from rackwright.errors import DeclarationError, Diagnostic, command
from rackwright.facts.digest import salt_id
from rackwright.foreign import parse_object, read_file
from rackwright.stack import Stack, declare

SecretDigests = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Wanted values in the form of wire.encode, by resource, thing and property; None for properties without a claim."""
_SECRET_DIGESTS: TypeAdapter[SecretDigests] = TypeAdapter(SecretDigests)


DIGESTS_BYTES = 64 << 20
"""Maximum size of a file of digests."""


class DigestsData(TypedDict):
    """Keyed digests of values that depend on secrets, for an audit without the secrets."""

    stack: str
    """Name of the stack."""
    salt_id: str
    """Id of the salt that keys the digests."""
    claims: SecretDigests
    """Declared values, in which digests stand for secrets, by resource, thing and property."""


def compute_digests(stack: Stack) -> DigestsData:
    """Return, as JSON data, keyed digests of all claims that depend on secrets; *stack* has the secrets' values."""
    digests: dict[str, dict[str, dict[str, Any]]] = {}
    redacted_stack = stack.without_secrets
    for redacted, complete in zip(declare(redacted_stack), declare(stack), strict=True):
        claims = contract.claims(complete.kind, complete.spec, stack.repository)
        wants = {(claim.thing, name): encode(want) for claim in claims for name, want in claim.want.items()}
        for claim in contract.claims(redacted.kind, redacted.spec, redacted_stack.repository):
            for name, want in claim.want.items():
                if isinstance(want, UnknownValue):
                    things = digests.setdefault(redacted.name, {})
                    things.setdefault(claim.thing, {})[name] = wants.get((claim.thing, name))
    return {"stack": stack.name, "salt_id": salt_id(stack.salt), "claims": digests}


def load(path: Path, stack: Stack) -> SecretDigests:
    """Return the digests that `rackwright digests` printed into the file *path* for *stack*.

    Raises:
        DeclarationError: the file cannot be read, or belongs to another stack or salt.
    """
    digests = command("rackwright digests {}", stack.name)
    expected, help = f"the output of {digests}", f"Write the output of {digests} into the file, with this stack's salt"
    try:
        data = parse_object(read_file(path, DIGESTS_BYTES), DIGESTS_BYTES)
        origin, claims = (data["stack"], data["salt_id"]), _SECRET_DIGESTS.validate_python(data["claims"])
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror}"
        raise DeclarationError(Diagnostic(str(path), problem, help="Correct the path")) from None
    except (ValueError, KeyError, TypeError):
        raise DeclarationError(Diagnostic(str(path), "the file has no digests", expected, help)) from None
    if origin != (own := (stack.name, salt_id(stack.salt))):
        problem = f"the digests are of stack {origin[0]} with salt {origin[1]}"
        raise DeclarationError(Diagnostic(str(path), problem, f"stack {own[0]} with salt {own[1]}", help))
    return claims


def insert_digests(claims: Sequence[Claim], digests: Mapping[str, Mapping[str, Any]]) -> tuple[Claim, ...]:
    """Return *claims* with the wanted values of *digests*, by thing and property, in place of unknown values."""
    if not digests:
        return tuple(claims)

    def insert(claim: Claim) -> Claim:
        properties = digests.get(claim.thing, {})
        wants = {
            name: decode_want(properties[name]) if isinstance(want, UnknownValue) and name in properties else want
            for name, want in claim.want.items()
            if not (isinstance(want, UnknownValue) and name in properties and properties[name] is None)
        }
        return replace(claim, want=wants)

    return tuple(claim for claim in map(insert, claims) if claim.want)
