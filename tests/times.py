"""Where the time of the tests goes: `python -m tests.times FILE...` prints tables of what `--cpu-times FILE` wrote."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

LONGEST = 25
"""Rows of the tables of files and tests."""


@dataclass(frozen=True)
class Time:
    """The time of one test with its fixtures, in seconds."""

    test: str
    wall: float
    processor: float
    """Of pytest and of the child processes that have ended."""

    @property
    def file(self) -> str:
        return self.test.partition("::")[0]

    @property
    def folder(self) -> str:
        return str(Path(self.file).parent)


def read(paths: Iterable[Path]) -> list[Time]:
    """Return the times in the files *paths*."""
    rows = (json.loads(line) for path in paths for line in path.read_text().splitlines())
    return [Time(test, wall, own + children) for test, wall, own, children in rows]


def table(title: str, times: Sequence[Time], key: Callable[[Time], str], longest: int | None = None) -> str:
    """Return a table in Markdown: tests, wall and processor seconds of each *key*, the longest first."""
    groups: dict[str, list[Time]] = defaultdict(list)
    for time in times:
        groups[key(time)].append(time)
    rows = [
        (sum(each.processor for each in group), sum(each.wall for each in group), len(group), name)
        for name, group in groups.items()
    ]
    lines = [f"| {title} | tests | processor s | wall s |", "| --- | ---: | ---: | ---: |"]
    for processor, wall, count, name in sorted(rows, reverse=True)[:longest]:
        lines.append(f"| `{name.replace('|', '/')}` | {count:,} | {processor:.1f} | {wall:.1f} |")
    return "\n".join(lines)


def pages(times: Sequence[Time]) -> str:
    """Return all tables."""
    total = sum(time.processor for time in times)
    return "\n\n".join(
        (
            f"{len(times):,} tests, {total / 60:.1f} minutes of one processor.",
            table("folder", times, lambda time: time.folder),
            table("file", times, lambda time: time.file, LONGEST),
            table("test", times, lambda time: time.test, LONGEST),
        )
    )


if __name__ == "__main__":
    print(pages(read(map(Path, sys.argv[1:]))))
