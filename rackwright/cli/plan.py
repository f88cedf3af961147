"""The plan of a preview: what pulumi's event log and the provider's records say of each resource, as text and JSON."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.core.wording import format_known_later, format_step
from rackwright.kinds.table import KINDS
from rackwright.provider.outcomes import Outcome, PlanRecord

STACK = "pulumi:pulumi:Stack"
"""Pulumi's type of a stack."""
UNCHANGED = {"same", "read", "refresh"}
DIFFERENCES_MAX = 12
"""Differences of one resource that the summary lists; --steps lists all."""
MARKUP = re.compile(r"<\{%.*?%\}>")
"""Pulumi's marks for colours in messages."""
OF_PULUMI = re.compile(r"Preview failed: |^(preview failed|Resource monitor has terminated, shutting down)$")
"""Pulumi's own words around the errors of resources."""
LABELS: Mapping[Outcome, str] = {"refused": "refused", "failed": "failed", "unreachable": "not reached"}
"""Outcomes that take the place of the planned change."""


class Change(NamedTuple):
    """A planned change: the operation, the type and the name of a resource or component."""

    op: str
    type: str
    name: str


@dataclass(frozen=True)
class Events:
    """The content of pulumi's event log."""

    changes: tuple[Change, ...] = ()
    unchanged: tuple[str, ...] = ()
    """Names of resources without a planned change."""
    messages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Errors and warnings by the name of the resource; those of the whole stack are under an empty name."""


def read_events(path: Path) -> Events:
    """Return the changes and messages of pulumi's event log; an absent log is empty."""
    changes: list[Change] = []
    unchanged: list[str] = []
    messages: dict[str, list[str]] = defaultdict(list)
    text = path.read_text() if path.exists() else ""
    for line in text.rpartition("\n")[0].splitlines():  # a pulumi that was killed may leave a part of a line
        event: dict[str, Any] = json.loads(line)
        if planned := (event.get("resourcePreEvent") or {}).get("metadata"):
            change = Change(planned["op"], planned["type"], planned["urn"].rpartition("::")[2])
            if change.op not in UNCHANGED:
                changes.append(change)
            elif change.op == "same" and change.type in KINDS:
                unchanged.append(change.name)
        message = event.get("diagnosticEvent") or {}
        text = OF_PULUMI.sub("", MARKUP.sub("", message.get("message", "")).strip())
        if message.get("severity") in ("error", "warning") and text:
            urn = message.get("urn", "")
            name = urn.rpartition("::")[2] if "pulumi:pulumi:Stack" not in urn else ""
            messages[name].append(text)
    return Events(tuple(changes), tuple(unchanged), {name: tuple(texts) for name, texts in messages.items()})


def format_outputs(path: Path) -> str:
    """Return the outputs of the stack in pulumi's event log, a line for each; empty without any."""
    outputs: dict[str, Any] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        planned = (json.loads(line).get("resOutputsEvent") or {}).get("metadata") or {}
        if planned.get("type") == STACK:
            outputs = (planned.get("new") or {}).get("outputs") or outputs
    lines = [f"  {name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in outputs.items()]
    return "".join(["outputs:\n", *lines]) if lines else ""


def format_messages(events: Events) -> Iterator[str]:
    """Yield the errors and warnings of *events*, each once, below the name of its first resource."""
    shown: set[str] = set()
    for name, texts in events.messages.items():
        new = [text for text in texts if text not in shown]
        shown.update(new)
        if new and name:
            yield f"{name}:"
        yield from _indent(new) if name else (line for text in new for line in text.splitlines())


def compared_resources(lines: Iterable[str]) -> set[str]:
    """Return the names of the resources that pulumi has compared, from further *lines* of its event log.

    A line that pulumi has not written to its end is left out.
    """
    events = (json.loads(line) for line in lines if '"resOutputsEvent"' in line and line.endswith("\n"))
    compared = (event["resOutputsEvent"]["metadata"] for event in events)
    return {each["urn"].rpartition("::")[2] for each in compared if each["type"] in KINDS}


def format_summary(
    events: Events,
    plans: Mapping[str, PlanRecord],
    outcomes: Mapping[Outcome, Set[str]],
    steps: bool = False,
    diff: bool = False,
) -> str:
    """Return the plan for people: a line for each resource that changes or has a message, then totals.

    Errors, warnings, differences and the data that steps destroy are always shown.

    Args:
        outcomes: The resources with each outcome that the provider has recorded.
        steps: Whether to list the steps and the notes of each resource.
        diff: Whether to show the diffs of the files.
    """
    labels = {change.name: change.op for change in events.changes if change.type in KINDS}
    labels |= dict.fromkeys((name for name in events.messages if name not in {"", *labels}), "unchanged")
    labels |= {name: LABELS[outcome] for outcome in LABELS for name in outcomes.get(outcome, ())}
    lines: list[str] = []
    shown: set[str] = set()
    afterwards: dict[str, dict[str, None]] = {}
    """Manual work after the creation of resources, with the hosts."""
    for name, label in sorted(labels.items()):
        messages = [text for text in events.messages.get(name, ()) if text not in shown]  # once for a host
        shown.update(messages)
        lines += _resource_lines(name, label, plans.get(name, PlanRecord(name)), messages, steps, diff)
        for text in plans[name].by_hand if label == "create" and name in plans else ():
            afterwards.setdefault(text, {})[name.partition("/")[0]] = None
    for text in events.messages.get("", ()):
        lines += text.splitlines()
    lines += [f"after `up`, by hand on {', '.join(hosts)}: {text}" for text, hosts in afterwards.items()]
    if text := format_known_later(sum(plan.known_later for plan in plans.values())):
        lines.append(text)
    counts = Counter(labels.values()) + Counter(unchanged=len({*events.unchanged} - labels.keys()))
    lines.append(", ".join(f"{number} {label}" for label, number in counts.items()) or "no resources")
    if any(plan.steps for plan in plans.values()) and not steps:
        lines.append("--steps lists the steps, --diff shows the texts of files")
    return "\n".join(lines)


class PlannedResource(TypedDict):
    """A resource that changes, or has a message."""

    name: str
    """Name of the resource, such as `HOST/TIER` for a tier."""
    type: str | None
    """Type of the resource for pulumi, such as `rackwright:storage:Tier`; null if nothing changes."""
    change: str | None
    """Planned operation: `create`, `update`, `replace` or `delete`; null if nothing changes."""
    outcomes: Sequence[Outcome]
    """Outcomes beside the plan, such as `refused`, `unknown` or `unreachable`."""
    steps: Sequence[str]
    """Steps that `up` runs, in their order."""
    destroys: Sequence[str]
    """Data that the steps destroy."""
    notes: Sequence[str]
    """Remarks about the plan, such as the content of its drives."""
    differences: Sequence[str]
    """Differences that the steps remove; empty for a new resource, where everything differs."""
    by_hand: Sequence[str]
    """Differences that only a person can remove."""
    known_later: int
    """Number of properties of a new resource that are unknown until its steps have run."""
    diff: str
    """Unified diffs of the files that change."""
    text_digests: Mapping[str, str]
    """Digests of the new texts of files, by path."""
    claims_digest: str
    """Digest of all that the declaration requires of the resource."""
    messages: Sequence[str]
    """Errors and warnings of the resource."""


class PlanData(TypedDict):
    """The plan of a stack: the changes that `up` would make."""

    resources: Sequence[PlannedResource]
    """Resources that change, or have a message."""
    unchanged: Sequence[str]
    """Names of the other resources."""
    messages: Sequence[str]
    """Errors and warnings of the whole stack."""


def as_data(events: Events, plans: Mapping[str, PlanRecord], outcomes: Mapping[Outcome, Set[str]]) -> PlanData:
    """Return the plan for machines; the arguments are those of format_summary."""
    ops = {change.name: change for change in events.changes if change.type in KINDS}
    names = sorted({*ops, *events.messages} - {""})
    resources = [_planned_resource(name, ops.get(name), events, plans, outcomes) for name in names]
    return {"resources": resources, "unchanged": list(events.unchanged), "messages": list(events.messages.get("", ()))}


def _planned_resource(
    name: str,
    change: Change | None,
    events: Events,
    plans: Mapping[str, PlanRecord],
    outcomes: Mapping[Outcome, Set[str]],
) -> PlannedResource:
    plan = plans.get(name, PlanRecord(name))
    return {
        "name": name,
        "type": change.type if change else None,
        "change": change.op if change else None,
        "outcomes": sorted(outcome for outcome, names in outcomes.items() if name in names),
        "steps": plan.steps,
        "destroys": plan.destroys,
        "notes": plan.notes,
        "differences": plan.differences,
        "by_hand": plan.by_hand,
        "known_later": plan.known_later,
        "diff": plan.changes,
        "text_digests": plan.texts,
        "claims_digest": plan.claims,
        "messages": list(events.messages.get(name, ())),
    }


def _resource_lines(
    name: str, label: str, plan: PlanRecord, messages: Iterable[str], steps: bool, diff: bool
) -> Iterator[str]:
    count = len(plan.steps)
    yield f"{name}: {label}" + (f", {count} step{'s' * (count != 1)}" if count else "")
    shown = plan.differences if steps else plan.differences[:DIFFERENCES_MAX]
    yield from _indent(f"differs: {text}" for text in shown)
    if left_out := len(plan.differences) - len(shown):
        yield f"  … and {left_out} more differences"
    if steps:
        yield from _indent(plan.notes)
        yield from _indent(format_step(number, count, text) for number, text in enumerate(plan.steps, start=1))
    yield from _indent(f"destroys {text}" for text in plan.destroys)
    yield from _indent(f"by hand: {text}" for text in plan.by_hand if label != "create")
    yield from _indent(messages)
    if diff and plan.changes:
        yield from _indent([plan.changes])


def _indent(texts: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for text in texts for line in text.splitlines())
