"""Digests of what depends on secrets: told by who knows the secrets, for an audit by who does not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rackwright.core import contract
from rackwright.core.contract import Claim, UnknownValue
from rackwright.core.wire import decode_want, encode
from rackwright.errors import DeclarationError, command
from rackwright.facts.digest import salt_id
from rackwright.stack import Stack, declare

SecretDigests = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Resource, thing, property: what is wanted, as wire.encode has it; None for what is not claimed after all."""
_SECRET_DIGESTS: TypeAdapter[SecretDigests] = TypeAdapter(SecretDigests)


def tell(stack: Stack) -> dict[str, Any]:
    """Return, for machines, all that *stack*, whose secrets are known, claims because of them: keyed digests."""
    told: dict[str, dict[str, dict[str, Any]]] = {}
    sealed = stack.without_secrets
    for hidden, known in zip(declare(sealed), declare(stack), strict=True):
        claims = contract.claims(known.kind, known.spec, stack.repository)
        wants = {(claim.thing, name): encode(want) for claim in claims for name, want in claim.want.items()}
        for claim in contract.claims(hidden.kind, hidden.spec, sealed.repository):
            for name, want in claim.want.items():
                if isinstance(want, UnknownValue):
                    things = told.setdefault(hidden.name, {})
                    things.setdefault(claim.thing, {})[name] = wants.get((claim.thing, name))
    return {"stack": stack.name, "salt_id": salt_id(stack.salt), "claims": told}


def load(path: Path, stack: Stack) -> SecretDigests:
    """Return what `rackwright digests` printed into *path* for *stack*.

    Raises:
        DeclarationError: it cannot be read, or is of another stack or salt.
    """
    want, fix = (
        f"it is what {command('rackwright digests {}', stack.name)} printed",
        "Take that, made with the salt that you hold",
    )
    try:
        told = json.loads(path.read_bytes())
        of, claims = (told["stack"], told["salt_id"]), _SECRET_DIGESTS.validate_python(told["claims"])
    except OSError as error:
        raise DeclarationError(str(path), f"got {error.strerror}", want, fix) from None
    except (ValueError, KeyError, TypeError):
        raise DeclarationError(str(path), "got something else", want, fix) from None
    if of != (stack.name, salt_id(stack.salt)):
        raise DeclarationError(str(path), f"got stack {of[0]} with salt {of[1]}", want, fix)
    return claims


def complete(claims: Sequence[Claim], told: Mapping[str, Mapping[str, Any]]) -> tuple[Claim, ...]:
    """Return *claims* with what is *told* by thing and property in the place of what cannot be told here."""

    def known(claim: Claim) -> Claim:
        things = told.get(claim.thing, {})
        wants = {
            name: decode_want(things[name]) if isinstance(want, UnknownValue) and name in things else want
            for name, want in claim.want.items()
            if not (isinstance(want, UnknownValue) and name in things and things[name] is None)
        }
        return replace(claim, want=wants)

    return tuple(claim for claim in map(known, claims) if claim.want)
