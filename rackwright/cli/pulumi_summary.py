"""The summary of a command that changes hosts, at its end or after a stop."""

from collections.abc import Collection, Iterator, Mapping, Set
from pathlib import Path

from rackwright.cli.pulumi_display import ResourceResults
from rackwright.provider import outcomes
from rackwright.provider.outcomes import Outcome


def outcome_lines(resources: Mapping[Outcome, Set[str]]) -> Iterator[str]:
    """Yield a line for each outcome, with the names of its resources."""
    for outcome, heading in outcomes.HEADINGS.items():
        if names := resources.get(outcome):
            yield f"{heading}: {', '.join(sorted(names))}"


def change_lines(records: Path, events: Path, expected: Collection[str], has_ended_early: bool) -> Iterator[str]:
    """Yield the reasons of failures, and which of the *expected* changes are done, in work, and not begun.

    Args:
        events: Pulumi's event log.
        has_ended_early: Whether an error or a signal has ended the command, so that changes may not have begun.
    """
    found, reasons = outcomes.read(records), outcomes.read_reasons(records)
    bad = {name for outcome in outcomes.INCOMPLETE for name in found.get(outcome, ())}
    yield from (f"  {name}: {reason}" for name, reason in reasons.items() if name in bad)
    if not has_ended_early:
        return
    results = ResourceResults()
    if events.exists():
        with events.open() as log:
            for _ in results.lines(log):
                pass
    ended = results.names | {name for names in found.values() for name in names}
    done = {*expected} & results.changed - bad
    if open_changes := {*expected} - done:
        yield f"done: {len(done)} of {len({*expected})} resources"
        if working := open_changes & results.begun - ended:
            yield f"in work: {', '.join(sorted(working))}"
        if not_begun := open_changes - results.begun - ended:
            yield f"not begun: {', '.join(sorted(not_begun))}"
