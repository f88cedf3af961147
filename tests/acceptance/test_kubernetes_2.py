"""Line 2: trainings in pods of a cluster, on containers of the twin whose pods are real."""

import json

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import ROOT, Log
from tests.support.pod_lab import NODES, TEAM, PodLab, pod_lab
from tests.support.workloads import python

RUN, PLAIN = "podded", "plain"
SET = "{steps: 100, report_every_steps: 5, saving: {every_steps: 20}}"
ON_HOSTS = f"""\
fleet: trainings
uses: fleet.yaml
runs:
  {PLAIN}:
    recipe: digits
    hosts: [oak, elm]
    launcher: torchrun
    checkpoints: {{tier: warm}}
    set: {SET}
"""
IN_PODS = f"""\
fleet: pods
uses: fleet.yaml
runs:
  {RUN}:
    recipe: digits
    hosts: [oak, elm, ash]
    on: kubernetes
    pods: {{team: {TEAM}, count: 2, memory: 2GiB}}
    checkpoints: {{tier: warm}}
    set: {SET}
"""
GANG = """\
fleet: trainings
uses: fleet.yaml
runs:
""" + "".join(
    f"""\
  {name}:
    recipe: digits
    hosts: [oak, elm, ash]
    on: kubernetes
    pods: {{team: {TEAM}, cpus: 2, memory: 2GiB}}
    checkpoints: {{tier: warm}}
    set: {{steps: {steps}, global_batch: 96, saving: {{every_steps: 20}}}}
"""
    for name, steps in (("first", 100000), ("second", 20))
)
"""Two runs, each of which needs all processors of all nodes."""
SAVED_STEP = 20
SECONDS = 1800


@line("kubernetes", 2, part="training")
def test_a_training_in_pods_outlives_a_node_and_has_the_weights_of_plain_hosts(log: Log) -> str:
    """A worker's node loses its power after the first checkpoint: a spare node takes its place."""
    with pod_lab(log, ON_HOSTS) as lab:
        log("training on plain hosts")
        lab.up()
        lab.rackwright("run", "wait", lab.stack, PLAIN, status=0)
        log("training in pods")
        lab.add_stack("pods", IN_PODS)
        lab.stack = "pods"
        lab.up()
        need(not lab.audit_differences(status=0), "something differs after `up`")
        selector = f"rackwright.local/run={RUN}"
        before = lab.pods(selector)
        launcher = next(node for name, node in before.items() if "launcher" in name)
        [lost] = [node for name, node in before.items() if "worker" in name]
        need(launcher == NODES[0] != lost, f"the pods are {before}")
        log(f"the pods are {before}")
        eventually(lambda: (lab.run_status(RUN).get("checkpoint") or 0) >= SAVED_STEP, "a checkpoint", SECONDS)
        log(f"{lost} loses its power")
        faults.power_off(lab.twin, lost)
        began = lab.log.seconds
        eventually(lambda: _elsewhere(lab, selector, lost), "another node takes the place", 300)
        moved = lab.log.seconds - began
        log("waiting for the end")
        eventually(lambda: lab.run_status(RUN)["outcome"] == "finished", f"{RUN} is finished", SECONDS)
        difference = _difference(log, lab)
        need(difference == "0.0", f"weights differ by {difference}")
        events = [json.loads(each) for each in (lab.out(launcher, RUN) / "metrics.jsonl").read_text().splitlines()]
        starts = sum(each.get("event") == "start" for each in events)
        need(starts > 1, f"the launcher started {starts} times")
    return (
        f"100 steps on {len(before)} pods, {lost} lost and replaced after {moved:.0f} s, started {starts} times:"
        " weights equal those of plain hosts to the last bit"
    )


@line("kubernetes", 2, part="gang")
def test_two_runs_that_do_not_fit_together_do_not_wait_for_each_other(log: Log) -> str:
    """The first holds all processors; the second holds nothing, and starts once the first is stopped."""
    with pod_lab(log, GANG) as lab:
        done = lab.up(status=4)
        outcomes = {name: lab.run_status(name)["outcome"] for name in ("first", "second")}
        need(sorted(outcomes.values()) == ["running", "stopped"], f"the runs are {outcomes}")
        [running] = [name for name, outcome in outcomes.items() if outcome == "running"]
        [waiting] = outcomes.keys() - {running}
        need("do not fit together" in done.stdout + done.stderr, "`up` does not say why")
        need(not lab.pods(f"rackwright.local/run={waiting}"), f"{waiting} has pods")
        need(len(lab.pods(f"rackwright.local/run={running}")) == len(NODES), f"{running} has not all of its pods")
        log(f"stopping {running}")
        lab.rackwright("run", "stop", lab.stack, running, status=0)
        lab.up(status=None)
        outcomes = {name: lab.run_status(name)["outcome"] for name in ("first", "second")}
        need("stopped" in outcomes.values() or outcomes["second"] == "finished", f"the runs are {outcomes}")
        need({"running", "finished"} & {*outcomes.values()}, f"no run goes on: {outcomes}")
    return f"of two runs of {len(NODES)} pods, {running} ran and {waiting} held nothing; then one of them went on"


def _elsewhere(lab: PodLab, selector: str, lost: str) -> bool:
    nodes = {*lab.pods(selector).values()}
    return lost not in nodes and "" not in nodes and len(nodes) > 1


def _difference(log: Log, lab: PodLab) -> str:
    """Return the largest difference of a weight between both runs."""
    outs = [str(lab.out(NODES[0], run)) for run in (RUN, PLAIN)]
    done = log.run([python(log), "-m", "tests.support.compare_runs", *outs], ROOT)
    return done.stdout.strip() or done.stderr.strip()[-300:]
