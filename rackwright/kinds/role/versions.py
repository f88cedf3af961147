"""Changes of a package's version that its software does not support."""

import re
from collections.abc import Iterable, Iterator, Sequence

from rackwright.core.contract import Difference
from rackwright.errors import Diagnostic
from rackwright.kinds.role.entries.entry import Entry
from rackwright.kinds.role.entries.software import PackageEntry


def refuse_skipped_minors(
    id: str, entries: Iterable[Entry], differences: Sequence[Difference]
) -> tuple[Diagnostic, ...]:
    """Return a refusal if a package with ``one_minor`` would rise by more than one minor version, or fall.

    Args:
        id: The id of the resource.
    """
    strict = {entry.thing for entry in entries if isinstance(entry, PackageEntry) and entry.one_minor}
    changes = {
        (item.actual, item.want)
        for item in differences
        if item.thing in strict
        and item.name == "version"
        and isinstance(item.actual, str)
        and isinstance(item.want, str)
    }
    return tuple(_refusals(id, sorted(changes)))


def _refusals(id: str, changes: Sequence[tuple[str, str]]) -> Iterator[Diagnostic]:
    for actual, want in changes:
        now, then = _numbers(actual), _numbers(want)
        if then < now:
            expected, help = f"{_text(now)} or newer", "Declare the installed version; a cluster has no way back"
        elif then[0] != now[0] or then[1] > now[1] + 1:
            expected = f"one minor version at a time: {now[0]}.{now[1]} or {now[0]}.{now[1] + 1}"
            help = f"Declare a version {now[0]}.{now[1] + 1} first, and run `rackwright up`"
        else:
            continue
        problem = f"got version {_text(then)}, and the host has {_text(now)}"
        yield Diagnostic(id, problem, expected, help, id="version-skew")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a Debian version before its revision: (1, 37, 2) of 1.37.2-1.1."""
    return tuple(map(int, re.findall(r"\d+", version.partition("-")[0])))


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
