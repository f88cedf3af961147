"""A plan that an operator has saved from a preview: `up --plan` runs its steps and no others."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rackwright.core import wire
from rackwright.core.contract import Claim, Plan
from rackwright.errors import ChangeRefused, Diagnostic

VARIABLE = "RACKWRIGHT_SAVED_PLAN"
"""The environment variable with the path of the saved plan; without it every plan may run."""
_EXPECTED = "the declaration, the steps and the texts of the saved plan"
_HELP = "Save a new plan with `rackwright preview STACK --save-plan FILE`, read it, and apply that one"


class SavedResource(BaseModel):
    """The plan of one resource."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claims: str = ""
    """The digest of its claims; empty for a resource that is not in the plan."""
    steps: tuple[str, ...] = ()
    texts: Mapping[str, str] = {}
    """The digest of the new text of each file, by its path."""


class SavedPlan(BaseModel):
    """The plan of a stack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    stack: str
    resources: Mapping[str, SavedResource]
    removed: tuple[str, ...]
    """The resources that are removed from their hosts."""


def claims_digest(claims: Sequence[Claim]) -> str:
    """Return the SHA-256 of *claims*: a changed declaration has another one."""
    return _digest(json.dumps(wire.encode_claims(claims), sort_keys=True))


def text_digests(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of the new text of each file, by its path."""
    return {path: _digest(text) for path, text in sorted(texts.items())}


def load(path: Path, stack: str) -> SavedPlan:
    """Return the plan in *path*, of *stack*.

    Raises:
        ChangeRefused: the file is no saved plan, or the plan of another stack.
    """
    help = "Name a file of `rackwright preview STACK --save-plan FILE`"
    try:
        plan = SavedPlan.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ChangeRefused(Diagnostic(str(path), f"the file is no saved plan: {error}", help=help)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        problem = f"the file is no saved plan of this version: {place} {first['msg']}"
        raise ChangeRefused(Diagnostic(str(path), problem, help=help)) from None
    if plan.stack != stack:
        problem = f"the plan is for stack {plan.stack}"
        raise ChangeRefused(Diagnostic(str(path), problem, f"a plan for stack {stack}", help))
    return plan


def check(id: str, claims: Sequence[Claim], plan: Plan) -> None:
    """Return if *plan* of the resource *id* is covered by the saved plan.

    Fewer steps are no difference: another resource may have made a part of the claims hold.

    Raises:
        ChangeRefused: the claims have changed, or a step or a text is not in the saved plan.
    """
    if (saved := _load_saved()) is None or not plan.steps:
        return
    if changes := [*_changes(saved.resources.get(id, SavedResource()), claims, plan)]:
        problem = f"the plan has changed since it was saved: {'; '.join(changes)}"
        raise ChangeRefused(Diagnostic(id, problem, _EXPECTED, _HELP, "no step was run", id="plan-outdated"))


def check_removal(id: str) -> None:
    """Return if the saved plan removes the resource *id*.

    Raises:
        ChangeRefused: the saved plan keeps the resource.
    """
    saved = _load_saved()
    if saved is not None and id not in saved.removed:
        raise ChangeRefused(
            Diagnostic(id, "the saved plan does not remove the resource", _EXPECTED, _HELP, id="plan-outdated")
        )


def _changes(planned: SavedResource, claims: Sequence[Claim], plan: Plan) -> Iterator[str]:
    yield from (step.text for step in plan.steps if step.text not in planned.steps)
    digests = text_digests(plan.texts)
    yield from (f"another text of {path}" for path in digests if planned.texts.get(path) != digests[path])
    if planned.claims != claims_digest(claims):
        yield "another declaration"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _load(path: str) -> SavedPlan:
    return SavedPlan.model_validate_json(Path(path).read_text(encoding="utf-8"))


def _load_saved() -> SavedPlan | None:
    path = os.environ.get(VARIABLE)
    return _load(path) if path else None
