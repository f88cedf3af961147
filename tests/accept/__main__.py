"""Run the checks: all, or those that the first argument names."""

import importlib
import pkgutil
import sys

from tests import accept
from tests.accept.harness import CHECKS, Check, check, chosen, judge


def main(only: str = "") -> int:
    """Return 0 if none of the checks falls short, 1 if one does, 2 if there is none of that name."""
    for module in pkgutil.iter_modules(accept.__path__):
        if "_" in module.name.strip("_"):
            _enter(module.name)
    ids = chosen(only)
    if not ids:
        print(f"got no check {only}; there are {', '.join(chosen(''))}", file=sys.stderr)
        return 2
    return 1 if sum(map(judge, ids)) else 0


def _enter(name: str) -> None:
    """Let the module *name* enter its checks; where it cannot be loaded, its line falls short."""
    try:
        importlib.import_module(f"tests.accept.{name}")
    except Exception as error:
        id = name.replace("_", ".")
        if not any(entered.startswith(id) for entered in CHECKS):
            check(id)(_broken(error))


def _broken(error: Exception) -> Check:
    def broken(log: object) -> str:
        raise error

    return broken


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
