"""The page of the facts that may differ after a rebuild."""

from rackwright.facts.rebuilt import VOLATILE
from tests.reference.markdown import page, table

INTRODUCTION = """\
[`rackwright rebuild`](../guides/rebuild.md) compares all facts of a host before and after, but for these. A star is any
name, or part of one."""


def render() -> str:
    """Return docs/reference/volatile-facts.md."""
    rows = [(f"`{'.'.join(path)}`", reason) for path, reason in VOLATILE.items()]
    return page("Facts that may differ", "rackwright/facts/rebuilt.py", INTRODUCTION, table(("fact", "reason"), rows))
