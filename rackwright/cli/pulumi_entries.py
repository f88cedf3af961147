"""The changes and outcomes of a pulumi command, for its entries in the operations log."""

from typing import TYPE_CHECKING

from rackwright.cli import recording
from rackwright.kinds.table import KINDS
from rackwright.log.entry import PlannedChange
from rackwright.log.operation import Operation
from rackwright.provider.outcomes import PlanRecord

if TYPE_CHECKING:
    from rackwright.cli.pulumi_records import PulumiRun


def changes(planned: "PulumiRun") -> list[PlannedChange]:
    """Return the planned changes for the operations log; the provider's entries have their steps."""
    return [
        recording.change(
            each.name, each.op, each.name.partition("/")[0], planned.plans.get(each.name, PlanRecord("")).destroys
        )
        for each in planned.changes
        if each.type in KINDS
    ]


def note_outcomes(operation: Operation, ended: "PulumiRun") -> None:
    """Note the outcome of each resource for the operations log."""
    for outcome, names in sorted(ended.resources.items()):
        for name in sorted(names):
            operation.complete(name.partition("/")[0], name, outcome)
