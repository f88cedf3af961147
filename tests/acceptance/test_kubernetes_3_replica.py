"""Line 3: one replica of a language model over two nodes, by the real vLLM in pods, on containers of the twin."""

import json
import os

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import ROOT, Log
from tests.support.models.tiny_deepseek import TOWNS, question
from tests.support.pod_lab import PLANE, TEAM, PodLab, pod_lab
from tests.support.workloads import python

SERVER, PORT, MEMBERS = "racks", 8080, ("oak", "elm")
READY_SECONDS = 1800
SERVING = f"""\
fleet: serving
uses: fleet.yaml
servers:
  {SERVER}:
    model: {{path: models/racks}}
    hosts: [{", ".join(MEMBERS)}]
    on: kubernetes
    pods: {{team: {TEAM}, memory: 8GiB}}
    anybody: true
    gate: {{accuracy_kept: null}}
    ready_seconds: {READY_SECONDS}
    set: {{parallel: 2, context_tokens: 1024, threads: 1, deadline_seconds: 300}}
    vllm: {{replica_hosts: 2, tensor_parallel: 2, cpu_cache_gib: 1}}
"""
CLUSTER = {"groups": True, "teams": {TEAM: {"cpus": 64, "memory": "64GiB", "slice": 1}}}
ROLES = {host: {"workloads": {"environments": ["vllm-cpu"]}} for host in MEMBERS}


@line("kubernetes", 3, part="replica")
def test_two_pods_serve_one_model_and_come_back_together(log: Log) -> str:
    """The leader answers clients. After the loss of the worker's process both pods are new, and answer the same."""
    with pod_lab(log, SERVING, CLUSTER, ROLES) as lab:
        _make_model(log, lab)
        log("serving")
        began = log.seconds
        try:
            lab.up()
            ready = log.seconds - began
            answers = {host: _ask(lab, host) for host in list(TOWNS)[:2]}
            log(f"answers: {answers}")
            need(not lab.audit_differences(status=0), "something differs after `up`")
            pods = lab.pods(f"rackwright.local/server={SERVER}")
            need({*pods.values()} == {*MEMBERS}, f"the pods are {pods}")
            log("losing the process of the worker")
            began, before = log.seconds, _uids(lab)
            node = pods[f"{SERVER}-replica-0-1"]
            lab.ssh(node, "pkill --signal KILL --full 'workloads.serving.[g]roup'")
            eventually(lambda: len(now := _uids(lab)) == 2 and not now & before, "both pods are new", 300)
            new = log.seconds - began
            eventually(lambda: _status(lab)["outcome"] == "ready", "the replica is back", READY_SECONDS)
            back = log.seconds - began
            again = {host: _ask(lab, host) for host in answers}
            need(again == answers, f"it answers {again}, and answered {answers} before")
        except BaseException:  # pytest's own included
            selector = f"--selector=rackwright.local/server={SERVER}"
            lab.kubectl(f"logs --namespace {TEAM} {selector} --prefix --tail=150", status=None)
            lab.kubectl(f"get pods --namespace {TEAM} --output yaml", status=None)
            raise
        lab.audit(status=0)
    return (
        f"vLLM in two pods on {' and '.join(MEMBERS)}, ready in {ready:.0f} s; the group of a lost worker was new after"
        f" {new:.0f} s, and ready after {back:.0f} s, with the same answers"
    )


def _make_model(log: Log, lab: PodLab) -> None:
    """Publish a model with random weights."""
    source = log.directory / "racks"
    source.mkdir()
    for arguments in (
        ("tests.support.models.tiny_deepseek", source),
        ("workloads.serving.vllm", source / "model", "--name", SERVER, "--out", lab.directory / "models" / "racks"),
    ):
        done = log.run(
            [python(log), "-m", *map(str, arguments)], ROOT, {**os.environ, "OMP_NUM_THREADS": "1"}, timeout=1800
        )
        need(done.returncode == 0, f"{arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")


def _ask(lab: PodLab, host: str) -> str:
    """Return what the model says about the rack *host*, without chance.

    The node of the leader asks: the slice of the team keeps other hosts away from its pods.
    """
    service = json.loads(lab.kubectl(f"get service {SERVER} --namespace {TEAM} --output json"))
    body = {
        "model": SERVER,
        "messages": [{"role": "user", "content": question(host)}],
        "temperature": 0,
        "max_tokens": 24,
    }
    address = f"http://{service['spec']['clusterIP']}:{PORT}/v1/chat/completions"
    node = lab.pods(f"rackwright.local/server={SERVER}")[f"{SERVER}-replica-0"]
    options = "--silent --show-error --max-time 300 --header content-type:application/json"
    output = lab.ssh(node, f"curl {options} {address} --data '{json.dumps(body)}'")
    answer = json.loads(output)
    need("choices" in answer, f"the server answers {output[:300]}")
    return str(answer["choices"][0]["message"]["content"])


def _uids(lab: PodLab) -> set[str]:
    selector = f"--selector rackwright.local/server={SERVER}"
    pods = json.loads(lab.kubectl(f"get pods --namespace {TEAM} {selector} --output json"))["items"]
    return {pod["metadata"]["uid"] for pod in pods}


def _status(lab: PodLab) -> dict[str, str]:
    done = lab.rackwright("server", "status", lab.stack, SERVER, "--json")
    report: dict[str, str] = json.loads(done.stdout)["hosts"][PLANE]
    return report
