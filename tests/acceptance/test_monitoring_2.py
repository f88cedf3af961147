"""Line 2 of monitoring: each fault has its alert, its claim of the audit and its page, and each alert ends."""

import time
from collections.abc import Callable, Iterator

import pytest

from rackwright.progress import Progress
from rackwright.twin import Twin, faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.monitoring_faults import DELAYS, FAULTS, KILLED, STACK, Fault, alerts_of, messages, start_receiver
from tests.support.monitoring_lab import HOSTS, SECRETS, SERVICE, WORKER, all_up, firing, fleet, rules_firing

SECONDS = 300
RUNBOOK = ROOT / "docs/runbooks/monitoring.md"
AUDIT = "/var/lib/prometheus/node-exporter/rackwright_audit_lab.prom"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("monitoring")
    text = fleet(delays=DELAYS, audits={STACK: 1}, repeat_minutes=1)
    with Lab(directory / "project", text, Log("monitoring-2"), containers=HOSTS, mirrors=True) as lab:
        for name, value in SECRETS.items():
            lab.set_secret(name, value)
        lab.start()
        lab.apply()
        start_receiver(lab)
        eventually(lambda: all_up(lab), "all targets are up", SECONDS)
        yield lab


def _seconds_until(lab: Lab, alert: str, host: str, fires: bool) -> float:
    """Return the seconds until an alert of *host*, or one without a host (`""`), fires, or has ended."""
    began = time.monotonic()
    state = "fires" if fires else "has ended"
    eventually(
        lambda: ((alert, host) in rules_firing(lab)) == fires, f"{alert} of {host or 'no host'} {state}", SECONDS
    )
    return time.monotonic() - began


def _try(lab: Lab, fault: Fault) -> str:
    """Cause a fault; return its alert with the seconds until it fired, after all is as before."""
    lab.log(f"{fault.host}: {fault.cause}")
    lab.ssh(fault.host, fault.cause)
    seconds = _seconds_until(lab, fault.alert, fault.host, fires=True)
    found = {f"{name} {claim}" for name, claim in lab.audit_differences()}
    need(not fault.claim or fault.claim in found, f"the audit says {found}, not {fault.claim}")
    need(f"## {fault.alert}\n" in RUNBOOK.read_text(), f"{RUNBOOK.name} has no section {fault.alert}")
    if fault.end:
        lab.ssh(fault.host, fault.end)
    else:
        lab.apply()
    _seconds_until(lab, fault.alert, fault.host, fires=False)
    return f"{fault.alert} {seconds:.0f} s"


@line("monitoring", 2, "services")
def test_each_fault_of_a_service_has_its_alert_and_ends(lab: Lab) -> str:
    """A stopped exporter, a failed unit, unread drives and a missing audit: alert, claim, page, and the end."""
    fired = [_try(lab, fault) for fault in FAULTS]
    lab.log("an audit that is missing comes")
    _seconds_until(lab, "AuditMissing", "", fires=True)
    done = lab.rackwright("audit", lab.stack, "--format", "prometheus")  # which finds the receiver of messages
    lab.ssh(SERVICE, f"cat > {AUDIT} <<'END'\n{done.stdout}\nEND\nchmod 644 {AUDIT}")
    _seconds_until(lab, "AuditMissing", "", fires=False)
    return f"{len(fired) + 1} faults: {', '.join(fired)}, AuditMissing"


@line("monitoring", 2, "killed")
def test_a_killed_process_of_monitoring_comes_back(lab: Lab) -> str:
    """systemd starts each process again, and the targets are up."""
    count = 0
    for host, units in KILLED.items():
        for unit in units:
            before = lab.ssh(host, f"systemctl show --value --property=MainPID {unit}")
            lab.ssh(host, f"systemctl kill --signal=KILL {unit}")
            eventually(
                lambda host=host, unit=unit, before=before: (
                    lab.ssh(host, f"systemctl show --value --property=MainPID {unit}") not in ("0", before)
                ),
                f"{unit} of {host} is back",
                SECONDS,
            )
            count += 1
    eventually(lambda: all_up(lab), "all targets are up", SECONDS)
    need(not lab.audit_differences(), "a claim differs")
    return f"{count} processes came back"


@line("monitoring", 2, "host")
def test_a_host_without_power_or_cables_is_one_message(lab: Lab) -> str:
    """HostNotReached alone is sent about it, whatever else fires; and its end is sent as well."""
    power = _lose(lab, faults.power_off, faults.power_on)
    cables = _lose(lab, faults.pull_cables, faults.plug_cables)
    return f"HostNotReached alone: {power:.0f} s without power, {cables:.0f} s without cables; and its ends"


def _lose(lab: Lab, lose: Callable[[Twin, str], None], find: Callable[[Twin, str, Progress], None]) -> float:
    """Lose the worker and find it again; return the seconds until its alert."""
    start_receiver(lab)
    lose(lab.twin, WORKER)
    seconds = _seconds_until(lab, "HostNotReached", WORKER, fires=True)
    eventually(lambda: alerts_of(lab, WORKER), "the message is sent", SECONDS)
    eventually(lambda: ("TargetsMissing", "") not in firing(lab), "no other alert", SECONDS)
    need(alerts_of(lab, WORKER) == {"HostNotReached"}, f"messages name {alerts_of(lab, WORKER)}")
    find(lab.twin, WORKER, lab.log.write)
    _seconds_until(lab, "HostNotReached", WORKER, fires=False)
    eventually(lambda: any(each["status"] == "resolved" for each in messages(lab)), "the end is sent", SECONDS)
    eventually(lambda: all_up(lab), "all targets are up", SECONDS)
    return seconds


@line("monitoring", 2, "prometheus")
def test_a_dead_prometheus_is_a_missed_heartbeat(lab: Lab) -> str:
    """The heartbeat ends, so that its receiver notices; after a start it is there again."""
    eventually(lambda: any(each["path"] == "/heartbeat" for each in messages(lab)), "a heartbeat arrives", SECONDS)
    lab.ssh(SERVICE, "systemctl stop rackwright-prometheus")
    began = time.monotonic()
    eventually(lambda: "Heartbeat" not in {name for name, _ in firing(lab)}, "the heartbeat ends", 2 * SECONDS)
    seconds = time.monotonic() - began
    start_receiver(lab)
    lab.apply()
    eventually(lambda: any(each["path"] == "/heartbeat" for each in messages(lab)), "it is there again", SECONDS)
    return f"the heartbeat ended {seconds:.0f} s after Prometheus"
