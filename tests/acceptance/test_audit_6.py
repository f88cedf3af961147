"""Line 6: the speed of audits, previews and starts, each as a figure beside its goal and beside other tools.

Each part runs one benchmark. Processor time is judged, because other work on the computer moves times by the clock; the
one exception is the timeout of hosts that hang.
"""

from typing import Any

import pytest

from benchmarks import FLOOR_MS, audit, further_host, hanging, live_audit, startup
from benchmarks import probe as probing
from tests.support.acceptance import line
from tests.support.benchmark import measure
from tests.support.expect import need
from tests.support.log import Log


@pytest.fixture(scope="module")
def live() -> dict[str, Any]:
    """The figures of an audit of 500 hosts behind sshd, which three parts judge."""
    return measure(Log("audit.6"), "benchmarks.live_audit")


@line("audit", 6, part="client")
def test_an_audit_costs_the_client_little_more_than_paramiko_alone(live: dict[str, Any]) -> str:
    """Paramiko sends the same probe to each host and decodes the answer; it compares nothing."""
    figure = f"{live['ms_per_host']} ms a host, {live['ratio']} times paramiko with decoding"
    need(live["ratio"] <= live_audit.RATIO_MAX, f"{figure}, at most {live_audit.RATIO_MAX}")
    return figure


@line("audit", 6, part="hosts")
def test_an_audit_of_500_hosts_takes_8_seconds(live: dict[str, Any]) -> str:
    """The processor seconds of the client."""
    figure = f"{live['seconds']} processor seconds of the client for {live['hosts']} hosts"
    need(live["seconds"] <= live_audit.SECONDS_MAX, f"{figure}, at most {live_audit.SECONDS_MAX}")
    return figure


@line("audit", 6, part="memory")
def test_an_audit_of_many_hosts_needs_little_memory(live: dict[str, Any]) -> str:
    """The most memory of the client, which does not grow with the facts: 1,000 hosts have the same goal."""
    figure = f"{live['memory_mb']} MB for {live['hosts']} hosts"
    need(live["memory_mb"] <= live_audit.MEMORY_MB_MAX, f"{figure}, at most {live_audit.MEMORY_MB_MAX} MB")
    return figure


@line("audit", 6, part="offline")
def test_an_audit_of_1000_snapshots_is_fast(log: Log) -> str:
    """1,000 hosts with 310 properties each, from files."""
    figures = measure(log, "benchmarks.audit")
    seconds, memory_mb = figures["ms_per_host"] * figures["hosts"] / 1000, figures["memory_mb"]
    figure = f"{seconds:.1f} processor seconds and {memory_mb} MB for {figures['hosts']} hosts"
    goal = f"at most {audit.SECONDS_MAX} s and {audit.MEMORY_MB_MAX} MB"
    need(seconds <= audit.SECONDS_MAX and memory_mb <= audit.MEMORY_MB_MAX, f"{figure}, {goal}")
    return figure


@line("audit", 6, part="probe")
def test_a_probe_of_a_large_host_is_fast(log: Log) -> str:
    """24 drives, 3,000 packages and 20,000 files."""
    figures = measure(log, "benchmarks.probe")
    figure = f"{figures['large_ms']} ms of the host's processor, {figures['of_small']} times a small host"
    need(figures["large_ms"] <= probing.AIM_MS, f"{figure}, at most {probing.AIM_MS} ms")
    return figure


@line("audit", 6, part="preview")
def test_a_preview_without_changes_costs_little_for_each_host(log: Log) -> str:
    """The processor time of all processes together, for each of 200 hosts with 3 resources."""
    figures = measure(log, "benchmarks", "preview")
    cost, of_ssh = figures["ms_per_host"], figures["ms_per_host"] / figures["plain_ssh_ms_per_host"]
    figure = f"{cost} ms for a host of 3 resources, {of_ssh:.1f} times what plain ssh takes"
    need(cost <= FLOOR_MS, f"{figure}, at most {FLOOR_MS} ms")
    return figure


@line("audit", 6, part="start")
def test_short_commands_start_at_once(log: Log) -> str:
    """`--help` and `check` of a small fleet."""
    figures = measure(log, "benchmarks.startup")
    seconds = {name: figures["seconds"][name] for name in ("rackwright --help", startup.CHECK)}
    texts = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    figure = f"{texts}; {figures['check_per_ansible']} times the check of ansible-playbook"
    need(max(seconds.values()) <= startup.AIM_SECONDS, f"{figure}, at most {startup.AIM_SECONDS} s")
    return figure


@line("audit", 6, part="further")
def test_one_more_host_costs_the_others_nothing_but_a_probe(log: Log) -> str:
    """The old hosts of a stack run no step when the stack gets a new host."""
    figures = measure(log, "benchmarks.further_host")
    added = figures["grown_seconds"] - figures["seconds"]
    figure = f"{figures['steps']} steps on {figures['hosts']} old hosts, {added:.1f} processor seconds more for the up"
    need(figures["steps"] <= further_host.STEPS_MAX, f"{figure}, at most {further_host.STEPS_MAX} steps")
    return figure


@line("audit", 6, part="hanging")
def test_hosts_that_hang_cost_one_timeout(log: Log) -> str:
    """The time by the clock that hosts add whose probe never ends."""
    figures = measure(log, "benchmarks.hanging")
    figure = f"{figures['timeouts']} timeouts for {figures['hanging']} of {figures['hosts']} hosts"
    need(figures["timeouts"] <= hanging.TIMEOUTS_MAX, f"{figure}, at most {hanging.TIMEOUTS_MAX:.0f}")
    return f"{figure}, {figures['added_seconds']} s"
