"""No directory is deleted for a store whose hosts acknowledge what only their memory has."""

from typing import Any

import pytest

from rackwright.errors import ChangeRefused, Diagnostic, EndpointUnreachable, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.tiering.durable import require_durable

DURABLE = {"buffered": []}


def check(**parts: Any) -> None:
    """Check a store whose hosts have *parts* of it."""

    def facts(host: str) -> Facts:
        if isinstance(parts[host], Exception):
            raise parts[host]
        return Facts({} if parts[host] is None else {"object_store": parts[host]})

    require_durable("archive", [*parts], facts, "rack")


def test_hosts_that_write_at_once_are_accepted():
    check(cedar=DURABLE, aspen=DURABLE)


@pytest.mark.parametrize("part", [{"buffered": ["/srv/warm/object_store/volumes/1.dat"]}, {}])
def test_one_host_that_keeps_writes_in_memory_refuses(part):
    with pytest.raises(ChangeRefused, match="aspen acknowledges objects before they are on its drives") as error:
        check(cedar=DURABLE, aspen=part)

    assert "rackwright up rack" in str(error.value)
    assert "--keep" in str(error.value)


@pytest.mark.parametrize(
    "part",
    [
        None,
        {"unknown": "permission denied"},
        {"buffered": {"unknown": "its filesystem has no synchronous writes"}},
        {"buffered": 7},
        HostUnreachable(Diagnostic("aspen", "no answer")),
    ],
)
def test_a_host_that_does_not_tell_is_not_fine(part):
    with pytest.raises(EndpointUnreachable, match="aspen does not show whether its writes are on the drive"):
        check(cedar=DURABLE, aspen=part)
