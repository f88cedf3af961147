"""Line 3: another model is rolled out under load and no request is lost; a bad one goes back by itself.

One that turns out to be wrong while it serves does so as well. What has learned from new rows gets there by a command.
"""

import json

import pytest

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import ROOT, Log
from tests.support.models import FIRST, ROWS, SECOND, WRONG
from tests.support.serving_lab import BALANCER, CANARY, HOSTS, ONE, OTHER, SERVER, ServingLab, serving_lab, version
from tests.support.workloads import python

CLIENTS = 16
LIB = f"/var/lib/rackwright/servers/{SERVER}"
PYTHON = "/opt/workloads/bin/python"
ROWS_OF = f"""
import json
print(json.load(open("{LIB}/current/release.json"))["canary"]["data"])
"""
CHANGED = """
import sys, numpy
rows, changed, by = sys.argv[1:]
arrays = dict(numpy.load(rows))
arrays["labels"] = (arrays["labels"] + int(by)) % 10
numpy.savez(changed, **{name: array[:-1] for name, array in arrays.items()})
"""
"""Another file of rows, one fewer, whose labels say something else by so much."""
SHIFTED = """
import sys, numpy
from workloads.training.config import Digits
from workloads.training.data import load
learned = load(Digits())
numpy.savez(sys.argv[1], x=numpy.roll(learned.x.numpy(), 1, axis=2), labels=learned.y.numpy())
"""
"""The digits, one pixel further to the right: rows that the models do not know."""


@line("serving", 3, part="rollout")
def test_a_rollout_under_load_loses_no_request(log: Log) -> str:
    """A good version, then one that is wrong, then back by hand, each under 16 clients; then a server is killed."""
    with serving_lab(log) as lab:
        first, second, wrong = (version(lab, model) for model in (FIRST, SECOND, WRONG))
        lab.promote(f"models/{SECOND}")
        with lab.load(CLIENTS) as good:
            lab.up()
            need(lab.versions() == dict.fromkeys(HOSTS[:2], second), f"hosts serve {lab.versions()}")
        need(not good["lost"], f"the good version lost {len(good['lost'])}: {good['lost'][:3]}")
        need({*good["answered"]} == {first, second}, f"answers came from {good['answered']}")

        lab.promote(f"models/{WRONG}")
        with lab.load(CLIENTS) as bad:
            done = lab.up(status=4)
        output = done.stdout + done.stderr
        need(
            "the canary is" in output and "release" in output and "serves again" in output, f"`up` says {output[-600:]}"
        )
        need(not bad["lost"], f"the bad version lost {len(bad['lost'])}: {bad['lost'][:3]}")
        report = lab.status(status=1)["hosts"]
        need({each["version"] for each in report.values()} == {second}, f"hosts serve {lab.versions()}")
        need(report[ONE]["refused"]["version"] == wrong, f"status says {report[ONE]}")
        need("refused" not in report[OTHER], f"the other host was changed: {report[OTHER]}")

        lab.rackwright("server", "rollback", lab.stack, SERVER, status=0)
        lab.up()
        need(lab.status(status=0)["version"] == second, "rolled back")
        killed = _killed(lab)
        answered = sum(good["answered"].values()), sum(bad["answered"].values())
        return (
            f"{first} → {second} under {CLIENTS} clients: {answered[0]} answered, none lost; {wrong} refused on {ONE},"
            f" rolled back, {OTHER} not touched: {answered[1]} answered, none lost; {killed}"
        )


def _killed(lab: ServingLab) -> str:
    """Kill a server under load, and return what that cost."""
    with lab.load(CLIENTS) as load:
        eventually(lambda: lab.ssh(BALANCER, "systemctl is-active clients", status=None) == "active", "clients ask")
        lab.ssh(ONE, f"systemctl kill --signal=KILL --kill-whom=main server-{SERVER}.service")
        at = float(lab.ssh(ONE, "date +%s.%N"))
        eventually(lambda: lab.status()["hosts"][ONE]["outcome"] == "ready", f"{ONE} serves again by itself", 600)
    late = [each for each in load["lost"] if each[0] > at + 10]
    need(not late, f"lost after the balancer had noticed: {late[:3]}")
    need(len(load["lost"]) <= CLIENTS, f"lost {len(load['lost'])}: {load['lost'][:3]}")
    return f"kill -9 lost {len(load['lost'])} of {sum(load['answered'].values())}, it was back by itself"


@line("serving", 3, part="watch")
def test_a_release_that_turns_wrong_is_rolled_back(log: Log) -> str:
    """On one host other labels take the place of those that a release is watched by; clients ask meanwhile."""
    with serving_lab(log) as lab:
        first, second = (version(lab, model) for model in (FIRST, SECOND))
        models = lab.directory / "models"
        done = log.run([python(log), "-c", CHANGED, str(models / ROWS), str(models / "others.npz"), "0"], ROOT)
        if done.returncode:
            pytest.fail(f"the rows could not be made: {done.stderr.strip().splitlines()[-1:]}", pytrace=False)
        path = lab.fleet_path.parent / "serving.yaml"
        watched = "canary: {data: models/others.npz, accuracy: 0.5, every: 1min, roll_back: true}"
        path.write_text(path.read_text().replace(CANARY, watched))
        lab.promote(f"models/{SECOND}")
        lab.up()
        right = {host: each["accuracy"]["accuracy"] for host, each in lab.status(status=0)["hosts"].items()}

        with lab.load(CLIENTS) as load:
            lab.ssh(ONE, f"data=$(python3 -c '{ROWS_OF}')\n{PYTHON} -c '{CHANGED}' \"$data\" \"$data\" 1")
            eventually(lambda: lab.status()["hosts"][ONE].get("version") == first, f"{ONE} goes back by itself", 600)
        need(not load["lost"], f"that lost {len(load['lost'])}: {load['lost'][:3]}")
        report = lab.status(status=1)["hosts"]
        why = report[ONE]["refused"]["why"]
        need(report[ONE]["refused"]["version"] == second and why.startswith("watched: "), f"status says {report[ONE]}")
        need(report[OTHER]["version"] == second and "refused" not in report[OTHER], f"the other host: {report[OTHER]}")
        need(
            lab.audit_differences(status=1) == {(f"{ONE}/{SERVER}", f"server:{SERVER}")},
            f"the audit says {lab.audit_differences()}",
        )

        lab.up()  # its rows are sent anew, and are right
        need(lab.status(status=0)["version"] == second, "served again")
        return (
            f"{second} had {right[ONE]:.2%} right on {ONE}; with other labels: {why}; {first} served again, {OTHER} not"
            f" touched: {sum(load['answered'].values())} answered, none lost"
        )


@line("serving", 3, part="iterate")
def test_one_command_brings_new_rows_into_service(log: Log) -> str:
    """Up to the fleet's file; then the same command again, which goes on, while clients ask."""
    with serving_lab(log) as lab:
        first, models = version(lab, FIRST), lab.directory / "models"
        done = log.run([python(log), "-c", SHIFTED, str(models / "new.npz")], ROOT)
        if done.returncode:
            pytest.fail(f"the rows could not be made: {done.stderr.strip().splitlines()[-1:]}", pytrace=False)
        given = ("--data", "models/new.npz", "--from", "models/training", "--may-lose", "0.02", "--json")
        iterate = ("server", "iterate", lab.stack, SERVER, *given)
        log("learning from new rows")
        before = json.loads(lab.rackwright(*iterate, "--until", "promote", status=0).stdout)
        need(before["outcome"] == "promoted" and lab.versions() == dict.fromkeys(HOSTS[:2], first), f"{before}")
        log("rolling it out")
        with lab.load(CLIENTS) as load:
            report = json.loads(lab.rackwright(*iterate, "--yes", status=0).stdout)
        need(report["outcome"] == "served", f"the report says {report}")
        need(lab.versions() == dict.fromkeys(HOSTS[:2], report["after"]["version"]), f"hosts serve {lab.versions()}")
        need(not load["lost"], f"that lost {len(load['lost'])}: {load['lost'][:3]}")
        for stage in ("tune", "gate", "quantize"):
            need(report["stages"][stage] == before["stages"][stage], f"{stage} was done again: {report['stages']}")
        new, old = report["accuracy"]
        times = ", ".join(f"{name} {each['seconds']:.0f} s" for name, each in report["stages"].items())
        return (
            f"{first} → {report['after']['version']}: new rows {new['before']:.1%} → {new['after']:.1%} right, old ones"
            f" {old['before']:.1%} → {old['after']:.1%}; {times}; {sum(load['answered'].values())} answered, none lost"
        )
