"""The archives that the operations log names, so that the loss of a whole one is noticed."""

import re

from rackwright.log.chain import Break, select

PATTERN = re.compile(r"s3://([^/]+)/([^/]+)\Z")
COMMAND = "tier move"


def moved_archives(content: bytes, stack: str, bucket: str) -> frozenset[str] | Break:
    """Return the archives that moves of *stack* have put into *bucket*, by a log with *content*.

    The result is the broken place of the log if there is one. Logs of earlier versions name none.
    """
    marks = (b'"event":"ended"', f'"command":"{COMMAND}"'.encode(), f'"stack":"{stack}"'.encode())
    ended = select(content, lambda text: all(mark in text for mark in marks), len(content))
    if isinstance(ended, Break):
        return ended
    done = (each for line in ended for each in line.data.get("completed", ()) if each["outcome"] == "done")
    found = (PATTERN.match(each["resource"]) for each in done)
    return frozenset(each[2] for each in found if each and each[1] == bucket)
