"""Line 3: a model server in pods under load is rolled out, drained and taken back, and no request is lost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import Log
from tests.support.models import FIRST, SECOND, WRONG
from tests.support.pod_lab import PLANE, TEAM, PodLab, pod_lab
from tests.support.serving_lab import CLIENTS, make_models

SERVER, PORT, COUNT, CLIENT_COUNT = "digits", 8080, 2, 4
SERVING = f"""\
fleet: serving
uses: fleet.yaml
servers:
  {SERVER}:
    model: {{path: models/{FIRST}}}
    hosts: [oak, elm, ash]
    on: kubernetes
    pods: {{team: {TEAM}, count: {COUNT}, memory: 2GiB}}
    anybody: true
    canary: {{data: models/rows.npz, accuracy: 0.5}}
    environment: {{path: /opt/workloads}}
    ready_seconds: 600
    set: {{threads: 1}}
"""


@line("kubernetes", 3, part="rollout")
def test_a_server_in_pods_changes_under_load_without_a_lost_request(log: Log) -> str:
    """Another model, a drained node, and a wrong model, each while clients ask the address of the service."""
    with pod_lab(log, SERVING) as lab:
        make_models(log, lab.directory / "models")
        first, second, wrong = (_version(lab, model) for model in (FIRST, SECOND, WRONG))
        log("serving the first model")
        lab.up()
        need(not lab.audit_differences(status=0), "something differs after `up`")

        log("rolling out the second model")
        _promote(lab, SECOND)
        with _load(lab) as rolled:
            lab.up()
        need(not rolled["lost"], f"the rollout lost {len(rolled['lost'])}: {rolled['lost'][:3]}")
        need({*rolled["answered"]} == {first, second}, f"answers came from {rolled['answered']}")

        drained = sorted(lab.pods(f"rackwright.local/server={SERVER}").values())[0]
        log(f"draining {drained}")
        with _load(lab) as moved:
            lab.kubectl(f"drain {drained} --ignore-daemonsets --timeout=500s")
            eventually(lambda: _is_served_without(lab, drained), "the server has all of its pods elsewhere", 600)
        lab.kubectl(f"uncordon {drained}")
        need(not moved["lost"], f"the drain lost {len(moved['lost'])}: {moved['lost'][:3]}")

        log("rolling out a wrong model")
        _promote(lab, WRONG)
        with _load(lab) as refused:
            done = lab.up(status=4)
        said = done.stdout + done.stderr
        need("the canary is" in said and "the previous release serves again" in said, f"`up` says {said[-900:]}")
        need(not refused["lost"], f"the wrong model lost {len(refused['lost'])}: {refused['lost'][:3]}")
        need({*refused["answered"]} == {second}, f"answers came from {refused['answered']}")
        report = _status(lab)
        need((report["outcome"], report["version"]) == ("ready", second), f"the status is {report}")
        _promote(lab, SECOND)
        lab.up()
        need(not lab.audit_differences(status=0), "something differs in the end")
        counts = [sum(each["answered"].values()) for each in (rolled, moved, refused)]
    return (
        f"{CLIENT_COUNT} clients: {first} → {second}: {counts[0]} answered; {drained} drained: {counts[1]}; {wrong}"
        f" taken back before it answered: {counts[2]}; none lost"
    )


def _version(lab: PodLab, model: str) -> str:
    version: str = json.loads((lab.directory / "models" / model / "model.json").read_text())["version"]
    return version


def _promote(lab: PodLab, model: str) -> None:
    lab.rackwright("server", "promote", lab.stack, SERVER, f"models/{model}", status=0)


def _status(lab: PodLab) -> dict[str, Any]:
    done = lab.rackwright("server", "status", lab.stack, SERVER, "--json")
    report: dict[str, Any] = json.loads(done.stdout)["hosts"][PLANE]
    return report


def _is_served_without(lab: PodLab, node: str) -> bool:
    places = lab.pods(f"rackwright.local/server={SERVER}").values()
    return _status(lab)["outcome"] == "ready" and node not in places and len(places) == COUNT


@contextmanager
def _load(lab: PodLab) -> Iterator[dict[str, Any]]:
    """Run clients on the control plane during the block; afterwards the mapping has their results."""
    results: dict[str, Any] = {}
    service = json.loads(lab.kubectl(f"get service {SERVER} --namespace {TEAM} --output json"))
    address = service["spec"]["clusterIP"]
    put = f"cat > /root/clients.py <<'END'\n{CLIENTS.read_text()}\nEND\nprintf none > /root/key\n"
    arguments = f"{address} {PORT} {SERVER} {CLIENT_COUNT} /root/results.json"
    begin = f"systemd-run --quiet --collect --unit=clients python3 /root/clients.py {arguments}"
    lab.ssh(PLANE, f"{put}rm -f /root/results.json\n{begin}")
    try:
        yield results
    finally:
        lab.ssh(PLANE, "systemctl stop clients", status=None)
    results |= json.loads(lab.ssh(PLANE, "cat /root/results.json"))
    lab.log(f"clients: {results}")
