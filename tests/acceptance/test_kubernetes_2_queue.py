"""Line 2: runs that wait in the queue of their team, on containers of the twin with Kueue and JobSet in pods."""

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import Log
from tests.support.pod_lab import TEAM, PodLab, pod_lab

RUNS = ("first", "second")
POD_COUNT, POD_CPUS = 2, 2
TRAININGS = """\
fleet: trainings
uses: fleet.yaml
runs:
""" + "".join(
    f"""\
  {name}:
    recipe: digits
    hosts: [oak, elm, ash]
    on: kubernetes
    pods: {{team: {TEAM}, count: {POD_COUNT}, cpus: {POD_CPUS}, memory: 2GiB}}
    checkpoints: {{tier: warm}}
    set: {{steps: 100000, saving: {{every_steps: 20}}}}
"""
    for name in RUNS
)
CLUSTER = {"queue": True, "teams": {TEAM: {"cpus": POD_COUNT * POD_CPUS, "memory": "64GiB"}}}
"""A cluster whose team has processors for one of the two runs."""
SECONDS = 300
"""Time for a run whose quota is free: Kueue admits it at once, and its pods read PyTorch from cold drives."""


@line("kubernetes", 2, part="queue")
def test_a_run_that_does_not_fit_waits_in_its_queue_and_starts_by_itself(log: Log) -> str:
    """The team has a quota for one of two runs. Edits of the queue by hand are found, and set again."""
    with pod_lab(log, TRAININGS, CLUSTER) as lab:
        lab.up()
        states = {name: lab.run_status(name) for name in RUNS}
        outcomes = {name: state["outcome"] for name, state in states.items()}
        need(sorted(outcomes.values()) == ["queued", "running"], f"the runs are {outcomes}")
        [waiting] = [name for name, outcome in outcomes.items() if outcome == "queued"]
        [running] = {*RUNS} - {waiting}
        need(states[waiting].get("place") == 1, f"{waiting} reports {states[waiting]}")
        need("insufficient unused quota" in str(states[waiting].get("why")), f"{waiting} reports {states[waiting]}")
        need(not lab.pods(f"rackwright.local/run={waiting}"), f"{waiting} has pods")
        need(len(lab.pods(f"rackwright.local/run={running}")) == POD_COUNT, f"{running} has not all of its pods")
        found = _edits(lab)
        log(f"{waiting} waits for {running}: {states[waiting]['why']}")
        lab.rackwright("run", "stop", lab.stack, running, status=0)
        eventually(lambda: lab.run_status(waiting).get("pods_ready") == POD_COUNT, f"{waiting} runs", SECONDS)
        eventually(lambda: lab.run_status(waiting).get("step", 0) > 0, f"{waiting} trains", SECONDS)
        need((state := lab.run_status(running)["outcome"]) == "stopped", f"{running} is {state}")
        lab.up()
        outcomes = {name: lab.run_status(name)["outcome"] for name in RUNS}
        need(outcomes == {waiting: "running", running: "queued"}, f"after `up` the runs are {outcomes}")
        need(not lab.audit_differences(status=0), "something differs at the end")
    return (
        f"{waiting} waited without a pod, and started by itself when {running} was stopped, which then waited in turn;"
        f" {len(found)} edits by hand were set again"
    )


def _edits(lab: PodLab) -> set[str]:
    """Change objects of the queue by hand, and return the differences that the audit finds and `up` corrects."""
    workloads, lab.stack = lab.stack, lab.hosts_stack
    try:
        lab.kubectl(f"""patch clusterqueue {TEAM} --type merge --patch '{{"spec": {{"stopPolicy": "Hold"}}}}'""")
        lab.kubectl("--namespace kueue-system label service kueue-webhook-service by=hand")
        lab.kubectl("delete clusterrolebinding kueue-metrics-auth-rolebinding")
        [cluster] = [each for each in lab.audit(status=1)["resources"] if each["differences"]]
        found = {f"{each['claim']}.{each['property']}" for each in cluster["differences"]}
        expected = {
            f"object:ClusterQueue/{TEAM}.spec.stopPolicy",
            "controllers:queue.kueue-system/Service/kueue-webhook-service",
            "controllers:queue.ClusterRoleBinding/kueue-metrics-auth-rolebinding",
        }
        need(found == expected, f"the audit found {sorted(found)}")
        lab.up()
        need(not lab.audit_differences(status=0), "something differs after `up`")
    finally:
        lab.stack = workloads
    return found
