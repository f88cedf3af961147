"""A plan that an operator has saved from a preview: `up --plan` runs its steps and no others."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rackwright.core.contract import Plan
from rackwright.errors import Diagnostic, Refused

VARIABLE = "RACKWRIGHT_SAVED_PLAN"
"""The environment variable with the path of the saved plan; without it every plan may run."""
FORMAT = 1
_EXPECTED = "the steps and texts of the saved plan"
_HELP = "Save a new plan with `rackwright preview STACK --save-plan FILE`, read it, and apply that one"


def text_digests(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of the new text of each file, by its path."""
    return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in sorted(texts.items())}


def encode(
    stack: str, steps: Mapping[str, Iterable[str]], texts: Mapping[str, Mapping[str, str]], removed: Iterable[str]
) -> str:
    """Return the content of a file with the plan of *stack*.

    Args:
        steps: The texts of the steps by resource.
        texts: The digests of the new texts of files by resource.
        removed: The resources that are removed from their hosts.
    """
    resources = {id: {"steps": [*steps[id]], "texts": dict(texts.get(id, {}))} for id in sorted(steps)}
    data = {"format": FORMAT, "stack": stack, "resources": resources, "removed": sorted(removed)}
    return f"{json.dumps(data, indent=2)}\n"


def load(path: Path, stack: str) -> dict[str, Any]:
    """Return the plan in *path*, of *stack*.

    Raises:
        Refused: the file is no saved plan, or the plan of another stack.
    """
    help = "Name a file of `rackwright preview STACK --save-plan FILE`"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = data["stack"] if data["format"] == FORMAT and {*data} >= {"resources", "removed"} else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(Diagnostic(str(path), f"the file is no saved plan: {error}", help=help)) from None
    if found != stack:
        problem = f"the plan is for stack {found}" if found else "the file is no saved plan of this version"
        raise Refused(Diagnostic(str(path), problem, f"a plan for stack {stack}", help))
    return dict(data)


def check(id: str, plan: Plan) -> None:
    """Return if *plan* of the resource *id* has no step and no text beside those of the saved plan.

    Fewer steps are no difference: another resource may have made a part of the claims hold.

    Raises:
        Refused: a step or a text is not in the saved plan.
    """
    if (saved := _saved()) is None:
        return
    planned = saved["resources"].get(id, {"steps": [], "texts": {}})
    if other := [*_others(plan, planned)]:
        problem = f"the plan has changed since it was saved: {'; '.join(other)}"
        raise Refused(Diagnostic(id, problem, _EXPECTED, _HELP, "no step was run"))


def check_removal(id: str) -> None:
    """Return if the saved plan removes the resource *id*.

    Raises:
        Refused: the saved plan keeps the resource.
    """
    saved = _saved()
    if saved is not None and id not in saved["removed"]:
        raise Refused(Diagnostic(id, "the saved plan does not remove the resource", _EXPECTED, _HELP))


def _others(plan: Plan, planned: Mapping[str, Any]) -> Iterator[str]:
    yield from (step.text for step in plan.steps if step.text not in planned["steps"])
    digests = text_digests(plan.texts)
    yield from (f"another text of {path}" for path in digests if planned["texts"].get(path) != digests[path])


@cache
def _load(path: str) -> dict[str, Any]:
    return dict(json.loads(Path(path).read_text(encoding="utf-8")))


def _saved() -> dict[str, Any] | None:
    path = os.environ.get(VARIABLE)
    return _load(path) if path else None
