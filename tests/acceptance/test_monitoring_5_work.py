"""Line 5 of monitoring: hosts keep their own work away from a host in quarantine, and take it back at the end."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.monitoring_faults import DELAYS
from tests.support.monitoring_lab import SECRETS, SERVERS, SERVICE, WORKER, fleet
from tests.support.tiny_server_lab import tiny_models

OTHER, SECONDS = "gamma", 300
HOSTS = (SERVICE, WORKER, OTHER)
ADDRESSES = {name: f"10.33.0.{number}" for number, name in enumerate(HOSTS, start=1)}
FRONT, PORT = 8088, 8080
OUT = "/srv/warm/runs/digits"
RUN, READER = "training-digits.service", "rackwright-quarantine-reader.service"
RUNS = f"""\
fleet: training
uses: fleet.yaml
runs:
  digits:
    recipe: digits
    hosts: [{WORKER}, {OTHER}]
    launcher: torchrun
    checkpoints: {{tier: warm}}
    set: {{steps: 1000000, report_every_steps: 5, saving: {{every_steps: 20}}}}
"""
ASK = """
import sys, urllib.error, urllib.request
for _ in range(int(sys.argv[2])):
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=20).status)
    except urllib.error.HTTPError as error:
        print(error.code)
    except urllib.error.URLError as error:
        print("refused" if isinstance(error.reason, ConnectionRefusedError) else error.reason)
"""
SEND = """
import sys, urllib.request
headers = {"authorization": "Bearer " + open("/etc/rackwright/quarantine_receiver/credential").read().strip()}
print(urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:9095/", sys.argv[1].encode(), headers)).status)
"""


def _add_work(content: Any) -> None:
    members = [f"{ADDRESSES[name]}:{PORT}" for name in (WORKER, OTHER)]
    balancer = {"address": ADDRESSES[SERVICE], "services": {"digits": {"port": FRONT, "members": members}}}
    content["hosts"][SERVICE]["roles"] = {"load_balancer": balancer}
    for name in (WORKER, OTHER):
        content["hosts"][name]["tiers"] = {"warm": {"provided": True, "mount": "/srv/warm"}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("quarantine")
    text = fleet(HOSTS, delays=DELAYS, quarantine={"share_percent": 34})
    log = Log("monitoring-5-work")
    with Lab(directory / "project", text, log, containers=HOSTS, mirrors=True, workloads=True) as lab:
        lab.edit(_add_work)
        lab.add_stack("serving", SERVERS.replace(f"[{WORKER}]", f"[{WORKER}, {OTHER}]"))
        lab.add_stack("training", RUNS)
        tiny_models(log, lab.directory / "models")
        for name, value in SECRETS.items():
            lab.set_secret(name, value)
        lab.start()
        lab.up()
        hosts = lab.stack
        for lab.stack in ("serving", "training"):
            lab.up()
        lab.stack = hosts
        yield lab


def _answers(lab: Lab, address: str, port: int, count: int = 1) -> set[str]:
    """Return what *count* requests of the monitoring host got: statuses, or `refused`."""
    argv = shlex.join(["python3", "-", f"http://{address}:{port}/", str(count)])
    return {*lab.ssh(SERVICE, f"{argv} <<'END'\n{ASK}\nEND").split()}


def _step(lab: Lab) -> int:
    lines = lab.ssh(WORKER, f"grep -h '\"step\":' {OUT}/metrics*.jsonl | tail -n 1").splitlines()
    return int(json.loads(lines[-1])["step"]) if lines else 0


def _active(lab: Lab, unit: str, host: str = WORKER) -> str:
    return lab.ssh(host, f"systemctl is-active {unit}", status=None).strip()


def _put_into_quarantine(lab: Lab, host: str) -> None:
    """Send the alert of a lost GPU of *host* as Alertmanager does."""
    now = lab.ssh(SERVICE, "date -u +%Y-%m-%dT%H:%M:%SZ").strip()
    labels = {"alertname": "GpuLost", "instance": host, "gpu": "GPU 0"}
    body = json.dumps({"alerts": [{"status": "firing", "labels": labels, "startsAt": now}]})
    done = lab.ssh(SERVICE, f"python3 - {shlex.quote(body)} <<'END'\n{SEND}\nEND")
    need(done.strip() == "200", f"the receiver answers {done}")


def _reads(lab: Lab, hosts: list[str]) -> bool:
    """Return whether each host knows that *hosts* are in quarantine."""
    found = [lab.ssh(name, "cat /run/rackwright-quarantine-reader/hosts").split() for name in HOSTS]
    return all(each == hosts for each in found)


@line("monitoring", 5, "work")
def test_a_balancer_and_a_run_leave_a_host_in_quarantine_and_come_back(lab: Lab) -> str:
    """Requests go to the other member alone, and the run waits at its checkpoint, until the end."""
    need(_answers(lab, ADDRESSES[OTHER], PORT) != {"refused"}, "the member answers before")
    eventually(lambda: _step(lab) > 20, "the run has steps", SECONDS)
    need(_active(lab, RUN) == "active", "the run works")
    need(_reads(lab, []), "no host is in quarantine before")
    _put_into_quarantine(lab, OTHER)
    eventually(lambda: _reads(lab, [OTHER]), "each host has read the verdict", SECONDS)
    eventually(lambda: _active(lab, RUN) == "inactive", "the run has stopped", SECONDS)
    held = _step(lab)
    saved = lab.ssh(WORKER, f"ls {OUT}/checkpoints").split()
    need(max(int(name.rpartition("-")[2]) for name in saved) >= held, f"step {held} is not in {saved}")
    need(_answers(lab, ADDRESSES[OTHER], PORT) == {"refused"}, "the balancer's host still reaches the member")
    through = _answers(lab, ADDRESSES[SERVICE], FRONT, 20)
    need(not through & {"refused", "502"}, f"the balancer answers {through}")
    need(_active(lab, "server-digits.service", OTHER) == "active", "the server itself was stopped")
    need(not lab.audit_differences(), "a claim of the hosts differs in quarantine")
    # a reader without its monitoring host keeps the last verdicts
    lab.ssh(SERVICE, "systemctl stop rackwright-quarantine-verdicts.service")
    for name in HOSTS:
        lab.ssh(name, f"systemctl start {READER}")
    need(_reads(lab, [OTHER]), "the last verdicts do not count")
    lab.ssh(SERVICE, "systemctl start rackwright-quarantine-verdicts.service")
    lab.rackwright("quarantine", "end", lab.stack, OTHER, "--reason", "a new GPU", status=0)
    eventually(lambda: _reads(lab, []), "each host has read the end", SECONDS)
    need(_answers(lab, ADDRESSES[OTHER], PORT) != {"refused"}, "the member is not reached after the end")
    eventually(lambda: _step(lab) > held, "the run goes on", SECONDS)
    hosts = lab.stack
    for stack in ("serving", "training", hosts):
        lab.stack = stack
        need(not lab.audit_differences(), f"a claim of {stack} differs after the end")
    return f"1 balancer of 2 members, 20 requests answered, 1 run of 2 hosts held at step {held} and going on"
