"""The facts of an audit, one host after the other."""

import threading
from datetime import UTC, datetime
from typing import Any

from rackwright.audit import evidence
from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts import snapshot
from rackwright.facts.facts import Facts

NAMES = [f"node-{number}" for number in range(3 * evidence.AT_ONCE)]


class Pool:
    """Hosts that answer at once, but for one that waits for *released*, and one that is off."""

    def __init__(self) -> None:
        self.released, self.asked, self.forgotten = threading.Event(), set[str](), set[str]()

    def facts(self, name: str, fresh: bool = False) -> Facts:
        self.asked.add(name)
        if name == NAMES[0]:
            assert self.released.wait(60)
        if name == NAMES[1]:
            raise HostUnreachable(Diagnostic(name, "no answer"))
        return Facts({"name": name})

    def forget_facts(self, name: str) -> None:
        self.forgotten.add(name)


def test_a_host_that_hangs_delays_no_other_and_few_hosts_are_ahead() -> None:
    pool: Any = Pool()
    seen: dict[str, object] = {}

    for name, facts in evidence.each_from_hosts(pool, NAMES, lambda text: None):
        seen[name] = facts
        assert len(pool.asked) <= len(seen) + evidence.AT_ONCE
        if len(seen) == len(NAMES) - 1:
            assert NAMES[0] not in seen
            pool.released.set()

    assert seen.keys() == {*NAMES}
    assert pool.forgotten == {*NAMES} - {NAMES[1]}, "a host that does not answer has no facts"
    assert isinstance(seen[NAMES[1]], HostUnreachable)


def test_only_the_snapshots_of_the_named_hosts_are_read(tmp_path) -> None:
    for name in ("wanted", "broken"):
        path = snapshot.save(tmp_path, name, Facts({"format": 1}))
    (tmp_path / "broken" / path.name).write_text("no JSON")

    [(name, facts), (missing, error)] = evidence.each_from_snapshots(tmp_path, datetime.now(UTC), ["wanted", "absent"])

    assert (name, missing) == ("wanted", "absent")
    assert isinstance(facts, Facts) and isinstance(error, HostUnreachable)
