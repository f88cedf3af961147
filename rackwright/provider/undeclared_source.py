"""The refusal to remove a resource whose host or endpoint the fleet does not declare any more."""

from rackwright.core.contract import EndpointSource, Source
from rackwright.errors import Diagnostic, command


def refuse_removal(stack: str, id: str, source: Source) -> Diagnostic:
    """Return why the resource *id* keeps its entry in the state of *stack*, although its *source* may still answer.

    Lines of a host that are missing by mistake must not remove anything from it, and its resources are named until a
    person decides about them.
    """
    problem = f"the fleet does not declare {source} any more"
    if isinstance(source, EndpointSource):
        help = f"Declare {source} again, remove its resources by an `up`, and take its lines out then"
    else:
        forget = command("rackwright host forget {} {}", stack, source)
        help = (
            f"Run {forget} to leave {source} as it is, or declare {source} again,"
            " and take its resources out of the fleet first"
        )
    return Diagnostic(id, problem, help=help, note=f"nothing is changed on {source}")
