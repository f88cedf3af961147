"""The outcomes and plans of resources for the command that started pulumi.

Pulumi has one exit status for all resources, and prints a plan as text.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rackwright.core.contract import Call, Claim, Command, Difference, Plan
from rackwright.core.wording import format_difference, format_manual
from rackwright.exit_status import ExitStatus
from rackwright.provider.lifetime import append
from rackwright.provider.saved_plan import claims_digest, text_digests

Outcome = Literal["failed", "cancelled", "halted", "refused", "by_hand", "unknown", "unreachable", "done"]
HEADINGS: Mapping[Outcome, str] = {
    "failed": "failed",
    "cancelled": "cancelled",
    "halted": "not begun, because of other hosts",
    "refused": "refused",
    "by_hand": "manual work needed",
    "unknown": "unknown in part",
    "unreachable": "not reached, so unknown",
}


STATUSES: Mapping[Outcome, ExitStatus] = {
    "failed": ExitStatus.FAILED,
    "cancelled": ExitStatus.FAILED,
    "halted": ExitStatus.UNKNOWN,  # the failure of the other hosts, if there is one, has an outcome of its own
    "refused": ExitStatus.REFUSED,
    "by_hand": ExitStatus.DIFFERS,
    "unknown": ExitStatus.UNKNOWN,
    "unreachable": ExitStatus.UNKNOWN,
    "done": ExitStatus.AS_DECLARED,
}
"""The exit status of a command with a resource of each outcome, if no other resource has a graver one."""
INCOMPLETE: tuple[Outcome, ...] = ("failed", "cancelled", "halted", "refused", "unreachable")
"""Outcomes of changes that were not made, or not to their end."""
REASON_CHARACTERS = 1000
"""Limit of the length of a reason, which may quote output of a host."""


def note(outcome: Outcome, id: str, reason: str = "") -> None:
    """Record *outcome* of the resource *id*; *reason* is one line without secrets, for a failure."""
    append({"outcome": outcome, "id": id, **({"reason": reason[:REASON_CHARACTERS]} if reason else {})})


@dataclass(frozen=True)
class PlanRecord:
    """The plan of one resource, in the words of the preview."""

    id: str
    steps: tuple[str, ...] = ()
    destroys: tuple[str, ...] = ()
    """The data that the steps destroy."""
    notes: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    """The differences that the steps remove; empty for a new resource, where everything differs."""
    by_hand: tuple[str, ...] = ()
    changes: str = ""
    """The unified diffs of the files."""
    known_later: int = 0
    """The number of properties of a new resource that are unknown until its steps have run, and compared then."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """The digests of the new texts of files, by path."""
    claims: str = ""
    """The digest of the claims."""


def losses(plan: Plan) -> tuple[str, ...]:
    """Return the data that the steps of *plan* destroy."""
    return tuple(loss for step in plan.steps if isinstance(step, Command | Call) for loss in step.destroys)


def note_plan(
    id: str,
    claims: Sequence[Claim],
    plan: Plan,
    differences: Iterable[Difference],
    changes: str,
    known_later: int,
    redact: Callable[[str], str],
) -> None:
    """Record the *plan* of the resource *id*.

    Args:
        claims: The claims of the resource.
        differences: The differences that the steps remove; none for a new resource.
        changes: The unified diffs of its files.
        known_later: The number of properties that are unknown until the steps have run.
        redact: Removes secrets from a text.
    """
    lines: dict[str, Iterable[str]] = {
        "steps": [step.text for step in plan.steps],
        "destroys": losses(plan),
        "notes": plan.notes,
        "differences": map(format_difference, differences),
        "by_hand": format_manual(plan.by_hand),
    }
    redacted: dict[str, Any] = {name: tuple(map(redact, texts)) for name, texts in lines.items()}
    digests: dict[str, Any] = {"texts": text_digests(plan.texts), "claims": claims_digest(claims)}
    record = PlanRecord(id, **redacted, changes=redact(changes), known_later=known_later, **digests)
    append({"plan": asdict(record), "id": id})


def read(path: Path) -> dict[Outcome, set[str]]:
    """Return the resources with each outcome; ``done`` replaces the earlier outcomes of a resource."""
    outcomes: dict[Outcome, set[str]] = defaultdict(set)
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        if "outcome" not in record:
            continue
        if record["outcome"] == "done":
            for resources in outcomes.values():
                resources.discard(record["id"])
        outcomes[record["outcome"]].add(record["id"])
    return dict(outcomes)


def read_reasons(path: Path) -> dict[str, str]:
    """Return the reason of the last failure of each resource whose change was not made, in their order."""
    records = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    return {record["id"]: record["reason"] for record in records if record.get("reason")}


def read_killed(path: Path) -> bool:
    """Return whether a provider has started, and has not ended in the usual way."""
    records = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    events = {(each["process"], each["provider"]) for each in records if "provider" in each}
    return any((process, "ended") not in events for process, _ in events)


def read_plans(path: Path) -> dict[str, PlanRecord]:
    """Return the last plan of each resource."""
    records = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    plans = (record["plan"] for record in records if "plan" in record)
    return {plan["id"]: PlanRecord(**{name: _tuple(value) for name, value in plan.items()}) for plan in plans}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
