"""The offset of a host's clock from the clock of the computer that reads the host."""

from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact


def with_clock_offset(facts: Facts, started: float, ended: float) -> Facts:
    """Return *facts* with the least offset of the host's clock that explains the time of the probe's end.

    The offset is 0 if that time lies between the start and the end of the connection, so a slow host has none. Facts of
    a probe that reports no time stay as they are.

    Args:
        started: Time by the caller's clock before the probe began, in seconds since 1970.
        ended: Time by the caller's clock after its last byte arrived.
    """
    try:
        finished = facts.finished_at
    except UnknownFact:
        return facts
    offset = min(finished - started, 0.0) + max(finished - ended, 0.0)
    return Facts({**facts.raw, "clock_offset_seconds": round(offset, 3)})
