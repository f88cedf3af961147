"""What a preview costs: the real pulumi, program and provider over simulated hosts, in processor time."""

import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

FLOOR_MS, AIM_MS = 60, 40
"""Of processor time, all processes together, for each host with three resources."""


def start(main: Callable[..., int | None], *smallest: tuple[dict[str, Any], Mapping[str, Any]]) -> None:
    """Call *main* with the arguments of the command line, and exit with what it returns.

    Args:
        smallest: Namespaces of modules, and the values that their constants have with ``--smallest``: one round of
            little work, which measures nothing and proves that the benchmark runs.
    """
    given = [argument for argument in sys.argv[1:] if argument != "--smallest"]
    if len(given) < len(sys.argv) - 1:
        for namespace, constants in smallest:
            if unknown := constants.keys() - namespace.keys():
                raise NameError(f"no constants of {namespace['__name__']}: {', '.join(unknown)}")
            namespace.update(constants)
    sys.exit(main(*given))


def children_seconds() -> float:
    """Return the processor seconds, user and system, of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
