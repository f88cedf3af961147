"""Line 5: how far a failing change spreads; and a host that is off delays no other host."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rackwright.hosts.transport import HANDSHAKE_SECONDS
from tests.support.acceptance import line
from tests.support.access_rack import fleet
from tests.support.expect import need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log

ROLES = {"base": {"security_updates": False}}
PLACE = "/etc/chrony/chrony.conf"
"""Where a directory is put: what no role can write a file over."""
SLACK_SECONDS = 20
"""Two runs of the same change differ by that."""
LOOKS = 2
"""Of `up` at all hosts, for its preview and for itself: the engine goes on when each has answered or had its time."""


def _hosts(count: int) -> list[str]:
    return [f"node-{number:02}" for number in range(1, count + 1)]


def _lab(log: Log, hosts: list[str], **more: Any) -> Lab:
    return Lab(log.empty_directory() / "project", fleet(hosts, ROLES, **more), log, containers=hosts)


def _untouched(lab: Lab, hosts: list[str]) -> set[str]:
    """Return which of *hosts* have no trace of the role."""
    owner = "/var/lib/rackwright/owners/role-base.json"
    return {host for host in hosts if lab.ssh(host, f"test -e {owner} && echo there || true") != "there"}


def _in_the_way(lab: Lab, host: str) -> None:
    lab.ssh(host, f"rm -f {PLACE}; mkdir {PLACE}")


@line("roles", 5, part="canary")
def test_a_failing_canary_stops_the_rollout(log: Log) -> str:
    hosts = _hosts(6)
    with _lab(log, hosts) as lab:
        lab.start()
        _in_the_way(lab, hosts[0])
        log("up, and the role fails on the first host")
        lab.up(status=4)
        untouched = _untouched(lab, hosts)
        need(untouched == set(hosts[1:]), f"untouched are {sorted(untouched)}, wanted all but {hosts[0]}")
        lab.ssh(hosts[0], f"rmdir {PLACE}")
        lab.up()
        need(not lab.differing(), "something differs once it is mended")
        return f"failed on {hosts[0]}, no step on the {len(untouched)} others; mended by the next up"


@line("roles", 5, part="batch")
def test_a_batch_with_too_many_failures_stops_the_rollout(log: Log) -> str:
    hosts = _hosts(9)
    with _lab(log, hosts, rollout={"canary": 1, "batch": 4, "max_failures": 1}) as lab:
        lab.start()
        for host in (hosts[1], hosts[3]):
            _in_the_way(lab, host)
        log("up, and the role fails on two hosts of the first batch, one more than may")
        lab.up(status=4)
        untouched = _untouched(lab, hosts)
        need(untouched == set(hosts[5:]), f"untouched are {sorted(untouched)}, wanted {hosts[5:]}")
        wrong = {name.partition("/")[0] for name, _ in lab.audit_differences()}
        need(wrong == {hosts[1], hosts[3], *hosts[5:]}, f"not as declared are {sorted(wrong)}")
        return f"one host, then four of whom two failed; the last {len(untouched)} were left alone"


@line("roles", 5, part="dead")
def test_an_unresponsive_host_delays_no_other_host(log: Log) -> str:
    """The same change to 20 hosts, once with all of them, and once with one that takes connections and says nothing."""
    hosts = _hosts(20)
    with _lab(log, hosts, rollout={"canary": 1, "batch": "100%"}) as lab:
        lab.start()
        log("up with all")
        lab.up()
        all_on = _changed(lab, "500M", status=0)
        with _silent(lab, hosts[7]):
            one_silent = _changed(lab, "600M", status=3)
            differing = lab.audit_differences()
        need(not differing, f"{format_claims(differing)}, though those hosts answer")
        more, most = one_silent - all_on, LOOKS * HANDSHAKE_SECONDS + SLACK_SECONDS
        need(more <= most, f"{more:.0f} s more with one host silent, at most {most:.0f}")
        times = f"in {one_silent:.0f} s with one silent, in {all_on:.0f} s with all"
        return f"{len(hosts) - 1} others changed {times}; {LOOKS} looks wait {HANDSHAKE_SECONDS:.0f} s for it"


def _changed(lab: Lab, size: str, status: int) -> float:
    """Declare another bound of the journal, and return how many seconds up takes, which has to end with *status*."""
    lab.edit(lambda content: content["groups"]["all"]["roles"]["base"].update(journal_max=size))
    began = lab.log.seconds
    lab.log(f"a change of all hosts: {size}")
    lab.up(status=status)
    return lab.log.seconds - began


@contextmanager
def _silent(lab: Lab, host: str) -> Iterator[None]:
    """Let *host* take connections, and answer none."""
    mine = str(lab.twin.layout.power_file(host)).encode()
    [chassis] = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if mine in _bytes(path)]
    os.kill(chassis, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(chassis, signal.SIGCONT)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""
