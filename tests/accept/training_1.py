"""Line 1: a run on two hosts of a twin, started, left alone, healed, and stopped by hand."""

import json

from tests.accept.harness import Log, Skipped, check, eventually, need
from tests.accept.lab import told
from tests.accept.trained import CHIEF, HOME, OTHER, OUT, RUN, START_SECONDS, Trained, goes_on, trained


@check("training.1")
def a_run_on_two_hosts(log: Log) -> str:
    with trained(log) as lab:
        parts = [_starts(lab), _is_left_alone(lab), _heals(lab), _stops(lab)]
    return "; ".join(parts)


@check("training.1[mlflow]")
def it_is_seen_in_mlflow(log: Log) -> str:
    raise Skipped("runs write their fingerprints to provenance.json, and tell no MLflow of them yet")


def _starts(lab: Trained) -> str:
    first, received = lab.step(OTHER), lab.received(OTHER)
    need(first >= 1, f"rank 1 has logged step {first} when `up` returned")
    goes_on(lab, OTHER)
    grown = lab.received(OTHER) - received
    need(grown > 0, "the fabric interface has received nothing")
    told = json.loads(lab.ssh(CHIEF, f"cat {OUT}/provenance.json"))
    need({*told["hosts"]} == {CHIEF, OTHER} and {"fleet", "declaration", "lock", "code"} <= {*told}, f"it says {told}")
    return f"rank 1 logs on its own host, {grown} bytes came over the fabric"


def _is_left_alone(lab: Trained) -> str:
    lab.log("a second up")
    lab.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes", status=0)
    need(lab.differing() == set(), "something differs")
    return "a second up changes nothing"


def _heals(lab: Trained) -> str:
    eventually(lambda: (lab.status().get("checkpoint") or 0) >= 20, "a checkpoint", START_SECONDS)
    [rank] = lab.processes(OTHER)
    lab.log("killing rank 1")
    lab.ssh(OTHER, f"kill -9 {rank}")
    eventually(lambda: lab.status().get("attempt") == 2, "it starts again", START_SECONDS)
    log = f"tail -n 40 {HOME}/log"
    eventually(lambda: "goes on after step" in lab.ssh(CHIEF, log), "it goes on", START_SECONDS)
    need("rank 1 ended with 137" in lab.ssh(CHIEF, log), "its log does not say who was lost")
    goes_on(lab, OTHER)
    return "a killed rank is healed from the last checkpoint, and the log says so"


def _stops(lab: Trained) -> str:
    lab.log("stopping it by hand")
    lab.rackwright("run", "stop", lab.stack, RUN, status=0)
    found = lab.differing()
    need(found == {(f"{CHIEF}/{RUN}", f"run:{RUN}")}, f"what differs is {told(found)}")
    return "a run stopped by hand shows in preview and audit"
