"""Whole deployments at work: a run is cut and goes on, its model passes a gate, is served, asked, and learns more."""

import json
from typing import Any

from rackwright.kinds.model_server.spec import unit_of
from rackwright.schema.secret import derive_value
from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.deployments import Deployment, deployment
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python

RUN = SERVER = "parts"
TRAINER, EDGES = "train-01", ("edge-01", "edge-02")
OUT = f"/srv/hot/runs/{RUN}"
SHIFTED = """
import sys, numpy
rows = numpy.load(sys.argv[1])
numpy.savez(sys.argv[2], x=numpy.roll(rows["x"], 1, axis=2), labels=rows["labels"])
"""
"""The rows of the example, one pixel further to the right."""


def _share(lab: Deployment, host: str) -> float:
    """Return the share of the example's rows that a host's server answers correctly; Triton's client asks it."""
    address = lab.fleet.hosts[host].nics[0].addresses[0].partition("/")[0]
    rows = lab.models_path.with_name("rows.npz")
    model = json.loads((lab.directory / "models/parts/model.json").read_text())["name"]
    argv = [
        *("nsenter", f"--net={lab.network_namespace(host)}", python(lab.log)),
        *("-m", "tests.support.ask_classifier", f"{address}:8080", model, str(rows)),
    ]
    done = lab.log.run(argv, ROOT, input=derive_value("parts_line"))
    need(done.returncode == 0, f"{host} does not answer: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout)


def _process(lab: Deployment, host: str) -> str:
    """Return the process of a host's server."""
    process = lab.ssh(host, f"systemctl show --value --property=MainPID {unit_of(SERVER)}")
    need(process != "0", f"the server of {host} does not run")
    return process


def _cut_link(lab: Deployment) -> None:
    """Change both servers while the link to one is down: its server runs on as it was, and has the change afterwards.

    Without a cable the host has no address on which anyone could ask the server.
    """
    lab.log("a change while the link to the hall is down")
    far = EDGES[-1]

    def look_more_often(fleet: Any) -> None:
        fleet["servers"][SERVER]["canary"]["every"] = "10min"

    before = _process(lab, far)
    faults.pull_cables(lab.twin, far)
    lab.edit_models(look_more_often)
    done = lab.rackwright("up", lab.models, status=3)
    need(f"{far}/{SERVER}" in done.stdout + done.stderr, f"`up` does not name what it did not reach: {done.stderr}")
    done = lab.rackwright("audit", lab.models, status=3)
    need(far in done.stdout, f"the audit does not name {far}: {done.stdout[-300:]}")
    faults.plug_cables(lab.twin, far, lab.log.write)
    need(_process(lab, far) == before, f"the server of {far} started again without its link")
    need(_share(lab, far) > 0.9, f"{far} does not serve with its link")
    lab.rackwright("up", lab.models, status=0)
    lab.rackwright("audit", lab.models, status=0)


def work(lab: Deployment) -> str:
    """Train, judge, serve, ask and train again."""
    lab.up()
    stopped = lab.train(RUN, TRAINER, OUT, {"saving": {"every_steps": 20}})
    lab.log("its model, judged by the gate")
    models = lab.directory / "models"
    lab.copy(TRAINER, OUT, models / "training")
    common = ("workloads.quantize", "models/training", "--data", "digits", "--target", "t4")
    lab.workload(*common, "--out", "models/refused", "--set", "gate.cosine=1.0", status=1)
    need(not (models / "refused").exists(), "the refused model was written")
    lab.workload(*common, "--out", "models/parts")
    lab.log("serving it on both edge hosts")
    lab.rackwright("server", "promote", lab.models, SERVER, "models/parts", status=0)
    lab.rackwright("up", lab.models, status=0)
    first = {host: _share(lab, host) for host in EDGES}
    need(min(first.values()) > 0.9, f"shares of correct answers are {first}")
    _cut_link(lab)
    lab.log("learning from new rows")
    rows = lab.models_path.with_name("rows.npz")
    done = lab.log.run([python(lab.log), "-c", SHIFTED, str(rows), str(lab.directory / "new.npz")], ROOT)
    need(done.returncode == 0, f"the rows could not be made: {done.stderr.strip().splitlines()[-1:]}")
    given = ("--data", "new.npz", "--from", "models/training", "--target", "t4", "--json", "--yes")
    refused = lab.rackwright("server", "iterate", lab.models, SERVER, *given, status=1)
    need("refused" in refused.stdout, f"a model that had lost more than 1 % of its accuracy was not: {refused.stdout}")
    done = lab.rackwright("server", "iterate", lab.models, SERVER, *given, "--may-lose", "0.05", status=0)
    report = json.loads(done.stdout)
    need(report["outcome"] == "served", f"the report says {report}")
    status = json.loads(lab.rackwright("server", "status", lab.models, SERVER, "--json", status=0).stdout)
    versions = {host: each["version"] for host, each in status["hosts"].items()}
    need({*versions.values()} == {report["after"]["version"]}, f"hosts serve {versions}")
    second = {host: _share(lab, host) for host in EDGES}
    need(min(second.values()) > 0.9, f"after that, shares are {second}")
    new, _ = report["accuracy"]
    return (
        f"stopped at step {stopped} and finished; 2 models refused by gates, 1 link cut; {len(first)} hosts with"
        f" {min(first.values()):.1%} right by Triton's client; new rows {new['before']:.1%} → {new['after']:.1%} right,"
        f" {min(second.values()):.1%} of the first"
    )


@line("deploy", "factory", part="work")
def test_a_factory_trains_serves_and_learns(log: Log) -> str:
    with deployment(log, "factory") as lab:
        return f"{work(lab)}; {lab.memory}"
