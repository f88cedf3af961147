"""Line 1: a run on two hosts of a twin, started, left alone, healed, and stopped by hand."""

import json
import re
from typing import Any

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import format_claims
from tests.support.log import Log
from tests.support.mlflow_accounts import ask
from tests.support.training_lab import LAUNCHER, LOG, OTHER, OUT, RUN, START_SECONDS, TrainingLab, goes_on, training_lab

CUT_SECONDS = 90
"""More than the 30 s after which a host that was lost is tried again."""


@line("training", 1)
def test_a_run_on_two_hosts_starts_and_heals_and_stops(log: Log) -> str:
    with training_lab(log, tracked=True) as lab:
        parts = [_starts(lab), _is_seen(lab), _is_left_alone(lab), _heals(lab), _stops(lab), _finishes(lab)]
    return "; ".join(parts)


@line("training", 1, part="elastic")
def test_a_lost_rank_rejoins_its_run(log: Log) -> str:
    with training_lab(log, more="elastic: {min_processes: 1}") as lab:
        [rank] = lab.processes(OTHER)
        log("killing rank 1")
        lab.ssh(OTHER, f"kill -9 {rank}")
        killed = log.seconds
        goes_on(lab, LAUNCHER, steps=20)  # more than it can have been about to log
        alone = log.seconds - killed
        eventually(lambda: lab.processes(OTHER), "another process in its place", START_SECONDS)
        goes_on(lab, OTHER)
        back = log.seconds - killed
        need(lab.differing() == set(), "something differs")
        cut = _cut(lab)
        need(lab.status().get("attempt") == 1, "the whole run was started again")
    lost = (
        f"the launcher host went on {alone:.0f} s after rank 1 was killed, and the other host again after {back:.0f} s"
    )
    return f"{lost}; {cut}"


def _cut(lab: TrainingLab) -> str:
    """Nothing that is more than a header passes the switch, for longer than a lost host is left alone."""
    lab.log("cutting the other host off")
    lab.rackwright("twin", "fault", lab.hosts_stack, "mtu", OTHER, "64", status=0)
    cut, before = lab.log.seconds, lab.step(LAUNCHER)
    eventually(lambda: lab.step(LAUNCHER) > before + 20, "it goes on without it", START_SECONDS)
    alone = lab.log.seconds - cut
    eventually(lambda: lab.log.seconds - cut > CUT_SECONDS, "a while", START_SECONDS)
    goes_on(lab, LAUNCHER)
    lab.log("letting it in again")
    lab.rackwright("twin", "fault", lab.hosts_stack, "mtu", OTHER, status=0)
    there, before = lab.log.seconds, lab.step(OTHER)
    eventually(lambda: lab.step(OTHER) > before, "the other host takes part again", START_SECONDS)
    back = lab.log.seconds - there
    return f"cut off for {CUT_SECONDS} s, it went on after {alone:.0f} s, and with both {back:.0f} s after that"


@line("training", 1, part="installed")
def test_a_run_imports_what_its_fleet_installs(log: Log) -> str:
    with training_lab(log, installed=True) as lab:
        [imported] = {
            lab.ssh(LAUNCHER, f"tr '\\0' ' ' < /proc/{rank}/cmdline").split()[0] for rank in lab.processes(LAUNCHER)
        }
        need(imported.startswith("/opt/rackwright/workloads/training-"), f"it imports {imported}")
        from_mirror = lab.ssh(LAUNCHER, "cat /opt/rackwright/workloads/pip.conf")
        need("127.0.0.1" in from_mirror, f"pip asks elsewhere: {from_mirror}")
        size = lab.ssh(LAUNCHER, "du -sh /opt/rackwright/workloads | cut -f 1")
        goes_on(lab, LAUNCHER)
        need(lab.differing() == set(), "something differs")
        lab.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes", status=0)
    return (
        f"{size} from the local repository, Horovod built there, two processes of it train in {imported.split('/')[-3]}"
    )


def _starts(lab: TrainingLab) -> str:
    first, received = lab.step(OTHER), lab.received_bytes(OTHER)
    need(first >= 1, f"rank 1 has logged step {first} when `up` returned")
    processes = [len(lab.processes(host)) for host in (LAUNCHER, OTHER)]
    need(processes == [1, 1], f"the hosts have {processes} processes of the training")
    goes_on(lab, OTHER)
    grown = lab.received_bytes(OTHER) - received
    need(grown > 0, "the fabric interface has received nothing")
    record = json.loads(lab.ssh(LAUNCHER, f"cat {OUT}/provenance.json"))
    need(
        {*record["hosts"]} == {LAUNCHER, OTHER} and {*record} == {"fleet", "declaration", "lock", "hosts", "code"},
        f"it says {record}",
    )
    need(len({*record["hosts"].values()}) == 2, f"two hosts have one fingerprint: {record['hosts']}")
    return f"rank 1 logs on its own host, {grown} bytes came over the fabric"


def _is_seen(lab: TrainingLab) -> str:
    """MLflow has its figures, and the fingerprints by which it was declared and of the hosts that it runs on."""
    eventually(lambda: lab.status().get("tracking"), "MLflow knows the run", START_SECONDS)
    run = str(lab.status()["tracking"]).rpartition("/")[2]

    def asked() -> dict[str, Any]:
        status, answer = ask(lab, LAUNCHER, "tina", "GET", f"runs/get?run_id={run}")
        need(status == 200, f"MLflow answers with {status}: {answer}")
        record: dict[str, Any] = answer["run"]
        return record

    eventually(lambda: "metrics" in asked()["data"], "MLflow has its figures", START_SECONDS)
    tags = {tag["key"].removeprefix("rackwright."): tag["value"] for tag in asked()["data"]["tags"]}
    record = json.loads(lab.ssh(LAUNCHER, f"cat {OUT}/provenance.json"))
    hosts = " ".join(f"{name}={digest}" for name, digest in sorted(record["hosts"].items()))
    wanted = {**record, "hosts": hosts}
    need({key: tags.get(key) for key in wanted} == wanted, f"MLflow says {tags}")
    need(asked()["info"]["status"] == "RUNNING", f"MLflow says {asked()['info']}")
    return f"MLflow has its figures, and the fingerprints of {', '.join(record['hosts'])}"


def _is_left_alone(lab: TrainingLab) -> str:
    lab.log("a second up")
    lab.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes", status=0)
    need(lab.differing() == set(), "something differs")
    return "a second up changes nothing"


def _heals(lab: TrainingLab) -> str:
    eventually(lambda: (lab.status().get("checkpoint") or 0) >= 20, "a checkpoint", START_SECONDS)
    [rank] = lab.processes(OTHER)
    lab.log("killing rank 1")
    lab.ssh(OTHER, f"kill -9 {rank}")
    eventually(lambda: lab.status().get("attempt") == 2, "it starts again", START_SECONDS)
    log = f"tail -n 40 {LOG}"
    eventually(lambda: "resumes after step" in lab.ssh(LAUNCHER, log), "it goes on", START_SECONDS)
    need("rank 1 ended with 137" in lab.ssh(LAUNCHER, log), "its log does not say who was lost")
    goes_on(lab, OTHER)
    return "a killed rank is healed from the last checkpoint, and the log says so"


def _stops(lab: TrainingLab) -> str:
    lab.log("stopping it by hand")
    lab.rackwright("run", "stop", lab.stack, RUN, status=0)
    report = lab.status()
    need(report["outcome"] == "stopped", f"the run is {report['outcome']}")
    saved, last = report["checkpoint"], report["step"]
    need(saved >= last, f"the run saved step {saved} and stopped in step {last}")
    need(not [lab.processes(host) for host in (LAUNCHER, OTHER) if lab.processes(host)], "the training still runs")
    found = lab.differing()
    need(found == {(f"{LAUNCHER}/{RUN}", f"run:{RUN}")}, f"what differs is {format_claims(found)}")
    return "a run stopped by hand saves its last step, and shows in preview and audit"


def _finishes(lab: TrainingLab) -> str:
    """With fewer declared steps the run resumes and finishes; then it refuses another configuration."""
    saved = int(lab.status()["step"])
    _declare_steps(lab, saved + 30)
    lab.log(f"declaring {saved + 30} steps")
    lab.up()
    eventually(lambda: lab.status()["outcome"] == "finished", "the run finishes", START_SECONDS)
    need(lab.status()["checkpoint"] == saved + 30, f"its last checkpoint is {lab.status()['checkpoint']}")
    need(lab.differing() == set(), "something differs once it has finished")
    left = f"pgrep -u run-{RUN} || true"
    eventually(lambda: not lab.ssh(OTHER, left), "the run's sshd stops on the other host", 60)
    _declare_steps(lab, saved + 60)
    refused = lab.rackwright("preview", lab.stack, status=2)
    reason = "the run has finished, and its declared configuration has changed"
    need(reason in " ".join(refused.stdout.split()), "the preview does not refuse another configuration")
    return "it resumes, finishes, stops its sshd and refuses another configuration"


def _declare_steps(lab: TrainingLab, steps: int) -> None:
    path = lab.fleet_path.parent / "training.yaml"
    path.write_text(re.sub(r"steps: \d+", f"steps: {steps}", path.read_text(), count=1))
