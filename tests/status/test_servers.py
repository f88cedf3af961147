"""The report on the servers of a stack, and the version before of each."""

from dataclasses import replace
from typing import Any

import pytest

from rackwright.errors import ChangeRefused, DeclarationError, HostUnreachable
from rackwright.schema.server import Server
from rackwright.stack import declare
from rackwright.status import servers
from rackwright.status.registered import ResolvedName
from rackwright.status.servers import ServerReport
from tests.support.json_documents import checked
from tests.support.recorded_hosts import ALSO, OTHERS

FINE = {"accuracy": 0.95, "asked": 0.9, "age_seconds": 100, "low": False, "before": 0.952, "before_age_seconds": 86460,
        "moved_by": -0.002, "moved": False}  # fmt: skip
SERVED = ALSO[OTHERS.index("served.yaml")]
OLD, NEW, OLDEST = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


def host(version: str | None = NEW, previous: str | None = OLD, **more: Any) -> dict[str, Any]:
    content = {"outcome": "ready", "version": version, "release": "dddddddddddd", "models": [OLD, NEW]}
    return {**content, "previous": previous, "requests": 7, "p50_ms": 1.0, "p99_ms": 5.0, "waiting": 0, **more}


def report(**hosts: dict[str, Any]) -> ServerReport:
    return ServerReport("digits", NEW, hosts)


def test_a_server_has_its_state_while_the_model_of_another_one_is_not_published() -> None:
    desk = Server.model_validate({"model": {"path": "models/desk"}, "hosts": ["ember"], "port": 8181, "anybody": True})
    stack = replace(SERVED, fleet=SERVED.fleet.model_copy(update={"servers": {**SERVED.fleet.servers, "desk": desk}}))
    with pytest.raises(DeclarationError, match="no model in models/desk"):
        declare(stack)
    for name in SERVED.fleet.servers:
        assert servers.specs(stack, name) == servers.specs(SERVED, name) != ()
    with pytest.raises(DeclarationError, match="no model in models/desk"):
        servers.specs(stack, "desk")


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        ({"alpha": host(), "beta": host()}, 0),
        ({"alpha": host(), "beta": host(OLD)}, 1),
        ({"alpha": host(outcome="not ready", why="it answers 503"), "beta": host()}, 1),
        ({"alpha": {}, "beta": host()}, 1),
        ({"alpha": host(OLD), "beta": {"unknown": "not reached: no route"}}, 3),
        ({"alpha": host(accuracy=FINE)}, 0),
        ({"alpha": host(accuracy={**FINE, "low": True}), "beta": host()}, 1),
        ({"alpha": host(accuracy={**FINE, "moved": True})}, 1),
        ({"alpha": host(accuracy={**FINE, "unknown": "the last canary check is too long ago"})}, 3),
        ({"alpha": host(accuracy={"unknown": "no canary check has run yet"}), "beta": host(OLD)}, 1),
    ],
)
def test_the_status_is_that_of_the_worst_host(hosts: dict[str, dict[str, Any]], status: int) -> None:
    assert report(**hosts).exit_status == status


def test_a_line_says_what_is_served_how_fast_and_what_was_refused() -> None:
    refused = {"release": "eeeeeeeeeeee", "version": NEW, "why": "the canary has 3.0000% right"}
    lines = str(report(alpha=host(OLD, None, refused=refused), beta=host(None, outcome="failed", waiting=None)))

    assert lines.splitlines() == [
        f"digits: version {NEW} is declared",
        f"  alpha: ready, version {OLD}, 7 requests, p50 1 ms, p99 5 ms, 0 waiting",
        f"    refused {NEW}: the canary has 3.0000% right",
        f"  beta: failed, version none, 7 requests, p50 1 ms, p99 5 ms, previous version {OLD}",
    ]


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"unknown": "not reached: no route"},
        host(accuracy=FINE, refused={"release": "eeeeeeeeeeee", "version": NEW, "why": "the canary has 3.0000% right"}),
        host(None, None, outcome="not ready", why="it answers 503", p50_ms=None, p99_ms=None, waiting=None),
        host(accuracy={"unknown": "no canary check has run yet"}),
        host(accuracy={**FINE, "why_not": "busy", "unknown": "busy"}),
    ],
)
def test_programs_get_what_is_known_of_any_host(known: dict[str, Any]) -> None:
    assert checked("server status", report(alpha=known).as_json())["hosts"] == {"alpha": known}


def test_of_a_registered_one_it_says_where_its_name_leads_whatever_that_is() -> None:
    away = ResolvedName("digits@champion", why="nobody answers")
    document = ServerReport("digits", NEW, {"alpha": host()}, away)

    assert str(document).splitlines()[1] == "  the version of digits@champion is unknown: nobody answers"
    assert checked("server status", document.as_json())["registered"] == {
        "name": "digits@champion", "version": None, "is_declared": None, "unknown": "nobody answers",
    }  # fmt: skip
    assert document.exit_status == 0
    assert checked("server status", report(alpha=host()).as_json())["registered"] is None


@pytest.mark.parametrize(
    ("accuracy", "line"),
    [
        (FINE, "canary accuracy 95.00%, 2 min ago, before 95.20% 24 h 02 min ago"),
        (
            {**FINE, "low": True, "moved": True, "why_not": "busy"},
            "canary accuracy 95.00%, 2 min ago, below the minimum of 90.00%, moved by -0.20% from 95.20%"
            " 24 h 02 min ago, the last canary check failed: busy",
        ),
        (
            {"accuracy": 0.95, "asked": 0.9, "age_seconds": 7200, "low": False, "why_not": "busy", "unknown": "busy"},
            "accuracy unknown: busy, canary accuracy 95.00%, 2 h 01 min ago",
        ),
        ({"unknown": "no canary check has run yet"}, "accuracy unknown: no canary check has run yet"),
    ],
)
def test_of_one_that_is_watched_it_says_how_right_it_is(accuracy: dict[str, Any], line: str) -> None:
    assert str(report(alpha=host(accuracy=accuracy))).splitlines()[2] == f"    {line}"


@pytest.mark.parametrize(
    "hosts",
    [
        {"alpha": host(), "beta": host()},
        {"alpha": host(OLD, OLDEST), "beta": host(OLD, OLDEST)},
        {"alpha": host(), "beta": host(OLD, OLDEST)},
    ],
    ids=["served everywhere", "refused by the first", "refused by the second"],
)
def test_before_it_is_what_every_host_served_or_serves(hosts: dict[str, dict[str, Any]]) -> None:
    assert report(**hosts).previous_version() == OLD


@pytest.mark.parametrize(
    "hosts",
    [
        {"alpha": host(previous=None), "beta": host()},
        {"alpha": host(previous=OLDEST), "beta": host()},
        {"alpha": host(models=[NEW])},
    ],
    ids=["a new host", "another before", "removed by hand"],
)
def test_what_not_all_hosts_have_is_not_gone_back_to(hosts: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ChangeRefused, match="the hosts do not agree on the previous version"):
        report(**hosts).previous_version()


def test_what_is_not_known_is_not_gone_back_to() -> None:
    with pytest.raises(HostUnreachable, match="not reached"):
        report(alpha=host(), beta={"unknown": "not reached: no route"}).previous_version()
