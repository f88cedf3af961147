"""The steps of a plan, between the entries of the operations log."""

from rackwright.core.contract import Plan
from rackwright.log.operation import Operation
from rackwright.progress import Progress
from rackwright.provider.outcomes import losses
from rackwright.provider.subject import Subject


def execute_logged(subject: Subject, plan: Plan, progress: Progress, change: str, entry: Operation) -> None:
    """Run the steps of *plan* between the entries of the operations log, the second of which has their result."""
    source, id, begun = subject.spec.facts_source, subject.id, 0
    host = str(source)

    def start(number: int) -> None:
        nonlocal begun
        begun = number

    steps = [step.text for step in plan.steps]
    entry.begin([{"host": host, "resource": id, "change": change, "steps": steps, "destroys": losses(plan)}])
    try:
        subject.site.execute(source, id, plan.steps, progress, start)
    except BaseException:
        entry.complete(host, id, "failed", max(begun - 1, 0))
        raise
    entry.complete(host, id, "done", len(steps))
