"""Line 5 of monitoring: quarantine by verdicts that others cannot forge, until its end."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import errors, eventually, need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.monitoring_faults import DELAYS
from tests.support.monitoring_lab import HOSTS, SECRETS, SERVERS, SERVICE, WORKER, all_up, fleet, rules_firing
from tests.support.tiny_server_lab import tiny_models

SECONDS = 300
PORT = 9095
CHAIN = "/var/lib/rackwright-quarantine/verdicts"
CREDENTIAL = "/etc/rackwright/quarantine_receiver/credential"
UNIT = "server-digits.service"
SEND = f"""
import sys, urllib.error, urllib.request
body, credential = sys.argv[1:]
headers = {{"authorization": f"Bearer {{credential}}"}} if credential else {{}}
request = urllib.request.Request("http://127.0.0.1:{PORT}/", body.encode(), headers)
try:
    print(urllib.request.urlopen(request, timeout=30).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
FOREIGN_LINE = """
import base64, json, sys
line = json.loads(open(sys.argv[1]).read())
line["signature"] = base64.b64encode(bytes(64)).decode()
open(sys.argv[1], "w").write(json.dumps(line, sort_keys=True, separators=(",", ":")) + chr(10))
"""
FORGED_CHAINS = {
    "a changed host": (f"sed -i 's/{WORKER}/{SERVICE}/' {CHAIN}", 1),
    "a repeated line": (f"tail -n 1 {CHAIN} >> {CHAIN}", 2),
    "a line of another key": (f"python3 - {CHAIN} <<'END'\n{FOREIGN_LINE}\nEND", 1),
    "no line any more": (f": > {CHAIN}", 1),
}
"""Commands by which root of the monitoring host could change the chain, and the line that is found in it."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("quarantine")
    text = fleet(delays=DELAYS, quarantine={"share_percent": 50})
    log = Log("monitoring-5")
    with Lab(directory / "project", text, log, containers=HOSTS, mirrors=True, workloads=True) as lab:
        lab.add_stack("serving", SERVERS)
        tiny_models(log, lab.directory / "models")
        for name, value in SECRETS.items():
            lab.set_secret(name, value)
        lab.start()
        lab.apply()
        eventually(lambda: all_up(lab), "all targets are up", SECONDS)
        yield lab


def _causes(lab: Lab) -> dict[str, list[str]]:
    """Return the alerts by host in quarantine, as the command lists them."""
    done = lab.rackwright("quarantine", "list", lab.stack, "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    need(done.returncode == bool(document["hosts"] or document["beyond"]), f"the status is {done.returncode}")
    need(not document["beyond"], f"beyond the share: {document['beyond']}")
    return {host: [each["alert"] for each in causes] for host, causes in document["hosts"].items()}


def _send(lab: Lab, body: str, credential: str = "", account: str = "nobody") -> str:
    """Send *body* to the receiver as *account* of the monitoring host; return the status of the answer."""
    argv = shlex.join(["runuser", "-u", account, "--", "python3", "-", body, credential])
    return lab.ssh(SERVICE, f"{argv} <<'END'\n{SEND}\nEND").strip()


def _message(host: str, started: str, alert: str = "GpuLost") -> str:
    labels = {"alertname": alert, "instance": host, "gpu": "GPU 0"}
    return json.dumps({"alerts": [{"status": "firing", "labels": labels, "startsAt": started}]})


def _now(lab: Lab) -> str:
    return lab.ssh(SERVICE, "date -u +%Y-%m-%dT%H:%M:%SZ").strip()


def _lose(lab: Lab) -> None:
    """Cut the power of the worker until it is in quarantine, and power it on."""
    faults.power_off(lab.twin, WORKER)
    eventually(lambda: _causes(lab) == {WORKER: ["HostNotReached"]}, f"{WORKER} is in quarantine", SECONDS)


def _find(lab: Lab) -> None:
    faults.power_on(lab.twin, WORKER, lab.log.write)
    eventually(lambda: ("HostNotReached", WORKER) not in rules_firing(lab), "the alert has ended", SECONDS)
    eventually(lambda: all_up(lab), "all targets are up", SECONDS)


def _refused_server(lab: Lab) -> None:
    """Require that `up` begins no server on the worker, and says why."""
    hosts, lab.stack = lab.stack, "serving"
    done = lab.up(status=None)
    lab.stack = hosts
    need(done.returncode, "`up` began a server on a host in quarantine")
    text = " ".join((done.stderr + done.stdout).split())
    need("host-in-quarantine" in text and "the host is not reached" in text, f"`up` says {errors(done.stderr)}")
    need(lab.ssh(WORKER, f"systemctl is-active {UNIT}", status=None).strip() == "inactive", "the server was started")


@line("monitoring", 5, "host")
def test_a_lost_host_gets_no_new_work_until_its_quarantine_ends(lab: Lab) -> str:
    """A host without power gets a verdict; forged, replayed and too many ones count nothing; it ends by hand."""
    need(_causes(lab) == {}, "no host is in quarantine before")
    began = _now(lab)
    _lose(lab)
    _find(lab)
    need(_causes(lab) == {WORKER: ["HostNotReached"]}, "the verdict stays after its alert")
    status = json.loads(lab.rackwright("status", lab.stack, "--json").stdout)
    need([*status["quarantine"]["hosts"]] == [WORKER], f"status says {status['quarantine']}")
    _refused_server(lab)
    lab.ssh(WORKER, "rm /etc/rackwright/metrics_proxy/nginx.conf")
    lab.apply()  # the host itself stays open to repairs
    need(not lab.audit_differences(), "a claim of the host differs after `up`")
    forged = _forge(lab, began)
    _lose_monitoring(lab)
    _end(lab, began)
    hosts, lab.stack = lab.stack, "serving"
    lab.up()
    lab.stack = hosts
    _lose(lab)
    _find(lab)
    changed = _change(lab)
    return f"1 lost host, {forged} forged messages and chains, monitoring lost, end replayed; {changed}"


def _forge(lab: Lab, began: str) -> int:
    """Require that forged messages and chains change nothing; return their number."""
    answers = {
        "no credential": _send(lab, _message(WORKER, _now(lab))),
        "another credential": _send(lab, _message(WORKER, _now(lab)), "0" * 64),
    }
    need({*answers.values()} == {"401"}, f"messages of other accounts are answered {answers}")
    need("Permission denied" in lab.ssh(SERVICE, f"runuser -u nobody cat {CREDENTIAL} 2>&1", status=None), "it is read")
    credential = lab.ssh(SERVICE, f"cat {CREDENTIAL}").strip()
    # root and the account of Alertmanager may send, up to the share, which the worker has used up
    need(_send(lab, _message(SERVICE, _now(lab)), credential, "root") == "200", "a message of root is read")
    need(_send(lab, _message("none", _now(lab)), credential, "root") == "200", "a message of root is read")
    need(_causes(lab) == {WORKER: ["HostNotReached"]}, "a message changed the quarantine")
    lab.ssh(SERVICE, f"cp -p {CHAIN} /root/verdicts")
    for name, (command, number) in FORGED_CHAINS.items():
        lab.ssh(SERVICE, command)
        done = lab.rackwright("quarantine", "list", lab.stack)
        output = done.stdout + done.stderr
        need(done.returncode == 4 and f"line {number}:" in output, f"{name}: {done.returncode}, {output}")
        status = json.loads(lab.rackwright("status", lab.stack, "--json").stdout)["quarantine"]
        need([*status["hosts"]] == [WORKER] and status["unknown"], f"{name}: status says {status}")
        lab.ssh(SERVICE, f"cp -p /root/verdicts {CHAIN}")
    need(_causes(lab) == {WORKER: ["HostNotReached"]}, "the chain is as before")
    return len(answers) + 2 + len(FORGED_CHAINS)


def _lose_monitoring(lab: Lab) -> None:
    """Require that the copy of the verdicts counts while the monitoring host is off."""
    faults.power_off(lab.twin, SERVICE)
    need(lab.rackwright("quarantine", "list", lab.stack).returncode == 3, "the monitoring host is not reached")
    _refused_server(lab)
    status = json.loads(lab.rackwright("status", lab.stack, "--json").stdout)["quarantine"]
    need([*status["hosts"]] == [WORKER] and SERVICE in status["unknown"], f"status says {status}")
    faults.power_on(lab.twin, SERVICE, lab.log.write)
    eventually(lambda: all_up(lab), "all targets are up", SECONDS)


def _end(lab: Lab, began: str) -> None:
    """End the quarantine, and require that a message from before it changes nothing."""
    lab.rackwright("quarantine", "end", lab.stack, SERVICE, "--reason", "none", status=2)
    lab.rackwright("quarantine", "end", lab.stack, WORKER, "--reason", "a new power supply", status=0)
    need(_causes(lab) == {}, "the quarantine has ended")
    credential = lab.ssh(SERVICE, f"cat {CREDENTIAL}").strip()
    need(_send(lab, _message(WORKER, began, "HostNotReached"), credential, "root") == "200", "a message is read")
    need(_causes(lab) == {}, "a message from before the end began a quarantine")
    log = lab.rackwright("log", "show", "--host", SERVICE, "--json", status=0).stdout
    need("a new power supply" in log, "the end is not on record")


def _change(lab: Lab) -> str:
    """Require that a server that is there stays as it is in quarantine, and that its change comes after the end."""
    hosts, lab.stack = lab.stack, "serving"
    lab.add_stack("serving", SERVERS.replace("drain_seconds: 0", "drain_seconds: 1"))
    before = lab.ssh(WORKER, f"systemctl show --value --property=MainPID {UNIT}").strip()
    done = lab.up(status=1)  # the change is work left to the operator
    need("it stays as it is there" in " ".join((done.stdout + done.stderr).split()), f"`up` says {errors(done.stderr)}")
    need(lab.ssh(WORKER, f"systemctl show --value --property=MainPID {UNIT}").strip() == before, "it was changed")
    lab.rackwright("quarantine", "end", hosts, WORKER, "--reason", "again", status=0)
    lab.up()
    need(lab.ssh(WORKER, f"systemctl show --value --property=MainPID {UNIT}").strip() not in ("0", before), "no change")
    lab.stack = hosts
    return "a changed server waited for the end"
