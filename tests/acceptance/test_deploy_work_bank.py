"""The bank at work: runs in units and in pods, a language model on two hosts, a classifier in pods, and the log."""

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.deployments import Deployment, deployment
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.models import FIRST
from tests.support.pod_lab import KUBECTL
from tests.support.serving_lab import make_models
from tests.support.small_chat import NEW, OLD, SERVING, answers, learn, tuning

LETTERS, CREDIT, DESK, SCREENING = "letters", "credit", "desk", "screening"
PLANE, TRAINER, CLIENT, TRACKING = "cp-01", "gpu-04", "gpu-03", "store-01"
POD_HOSTS = ("gpu-01", "gpu-02")
POD_STEPS = 200
"""Steps of the run in pods, which is not stopped: two processes of a twin take a third of a second for each."""
OUT = f"/srv/hot/runs/{LETTERS}"
BALANCER, MLFLOW = "http://10.62.0.32:8088/v1", "https://10.62.0.31:5000"
LENT = {"path": "/opt/workloads"}
"""The environment of this computer, which the hosts of the twin use."""
INFER = """
import json, sys, urllib.request
tensor = {"name": "x", "datatype": "FP32", "shape": [1, 8, 8], "data": [float(n % 16) for n in range(64)]}
content = json.dumps({"inputs": [tensor]}).encode()
asked = urllib.request.Request(sys.argv[1], content, {"content-type": "application/json"})
print(json.load(urllib.request.urlopen(asked, timeout=60))["model_version"])
"""


def _lend(lab: Deployment) -> None:
    """Lend hosts this computer's environment of the workloads: their own take 13 GB each.

    The twin gives it to its hosts when it starts.
    """
    lab.set("workloads", "lent")

    def without_environments(fleet: Any) -> None:
        del fleet["groups"]["gpu-nodes"]["roles"]["workloads"]
        fleet["groups"]["all"]["roles"]["base"]["packages"].append("libgomp1")  # which that role installs

    lab.edit(without_environments)


def _on_processors(fleet: Any, base: Path, conversations: Path) -> None:
    """Make the sizes of runs and servers those of a twin; llama.cpp serves in the place of vLLM, which needs GPUs."""
    for run in fleet["runs"].values():
        run |= {"processes": 1, "environment": {**LENT}, "set": tuning(base, conversations)}
    in_pods = tuning(PurePosixPath("/srv/warm/models/base"), PurePosixPath("/srv/warm/data/credit"))
    in_pods |= {"steps": POD_STEPS, "saving": {"every_steps": POD_STEPS}}
    fleet["runs"][CREDIT] |= {"hosts": [*POD_HOSTS], "set": in_pods}
    fleet["runs"][CREDIT]["pods"] |= {"cpus": 1, "memory": "2GiB", "gpus": 1}
    desk, screening = fleet["servers"][DESK], fleet["servers"][SCREENING]
    del desk["vllm"]
    desk |= {"model": {"path": "models/desk"}, "environment": {**LENT}, "set": SERVING}
    screening |= {"model": {"path": "models/screening"}, "environment": {**LENT}, "set": {"threads": 1}}
    screening["pods"] |= {"cpus": 1, "memory": "2GiB"}


def _alone(lab: Deployment, sort: str, name: str) -> None:
    """Apply one run or server of the file with nothing beside it."""
    whole = lab.models_path.read_text()

    def only(fleet: Any) -> None:
        for other in ("runs", "servers"):
            fleet[other] = {name: fleet[other][name]} if other == sort else {}

    lab.edit_models(only)
    lab.rackwright("up", lab.models, status=0)
    lab.models_path.write_text(whole)


def _registered(lab: Deployment) -> int:
    """Return the number of versions that the tracking server has of the model of the letters."""
    settings = f'user = "trainer:{derive_value("mlflow_trainer")}"\n'
    argv = [
        *("nsenter", f"--net={lab.network_namespace(TRACKING)}", "curl", "--silent", "--fail", "--config", "-"),
        *("--cacert", str(lab.fleet_path.with_name("certificates") / "authority.pem")),
        f"{MLFLOW}/api/2.0/mlflow/registered-models/get?name={LETTERS}",
    ]
    done = lab.log.run(argv, ROOT, input=settings)
    need(done.returncode == 0, f"the tracking server does not know {LETTERS}: {done.stdout[-200:]}")
    return len(json.loads(done.stdout)["registered_model"]["latest_versions"])


def _ask(lab: Deployment) -> list[str]:
    """Return the answers to the old question and to the new one, which another host gets through the load balancer."""
    return answers(lab, CLIENT, BALANCER, derive_value("desk_key"), OLD[0], NEW[0])


def _screened(lab: Deployment) -> str:
    """Return the version of the model that answers a pod of the team."""
    kubectl = f"{KUBECTL} --namespace fraud"
    [address, *_] = lab.ssh(PLANE, f"{kubectl} get service {SCREENING} -o jsonpath='{{.spec.clusterIP}}'").split()
    pods = json.loads(lab.ssh(PLANE, f"{kubectl} get pods --selector rackwright.local/server={SCREENING} -o json"))
    pod = pods["items"][0]["metadata"]["name"]
    model = json.loads((lab.directory / "models" / SCREENING / "model.json").read_text())["name"]
    url = f"http://{address}:8080/v2/models/{model}/infer"
    script = f"{kubectl} exec -i {pod} -- {LENT['path']}/bin/python - {url} <<'END'\n{INFER}\nEND\n"
    return lab.ssh(PLANE, script)


def work(lab: Deployment) -> str:
    """Train in units and in pods, judge, serve on hosts and in pods, ask, learn more, and look at the log."""
    heads = lab.directory.parent / "vault" / "heads.jsonl"
    heads.parent.mkdir()
    lab.environment["RACKWRIGHT_LOG_HEADS"] = str(heads)
    lab.up()
    lab.log("a base model, letters, and a classifier")
    models = lab.directory / "models"
    make_models(lab.log, models)
    lab.workload("tests.support.models.chat", "make", "models/made")
    shutil.copytree(models / FIRST, models / SCREENING)
    base, letters = models / "made/base", models / "letters/old.jsonl"
    letters.parent.mkdir()
    shutil.copy(models / "made/old.jsonl", letters)
    # at the same paths as here, where the model is exported and learns more
    for path in (base, letters):
        lab.send(TRAINER, path, str(path))
    for host in POD_HOSTS:
        lab.send(host, base, "/srv/warm/models/base")
        lab.send(host, letters.parent, "/srv/warm/data/credit")
    lab.edit_models(lambda fleet: _on_processors(fleet, base, letters))
    stopped = lab.train(LETTERS, TRAINER, OUT, {})
    versions = _registered(lab)
    lab.log("a run in pods of team risk")
    _alone(lab, "runs", CREDIT)
    lab.rackwright("run", "wait", lab.models, CREDIT, status=0)
    credit = json.loads(lab.rackwright("run", "status", lab.models, CREDIT, "--json").stdout)
    need(credit["outcome"] == "finished", f"{CREDIT} is {credit}")
    lab.log("the model of the letters: exported, and served on two hosts")
    lab.copy(TRAINER, OUT, models / "training")
    merged = ("--to", "gguf", "--merge-adapters")
    lab.workload("workloads.export", "models/training", *merged, "--out", "models/export")
    lab.workload("workloads.serving.gguf", "models/export/model.gguf", "--name", DESK, "--out", "models/desk")
    lab.rackwright("server", "promote", lab.models, DESK, "models/desk", status=0)
    lab.rackwright("server", "promote", lab.models, SCREENING, f"models/{SCREENING}", status=0)
    lab.rackwright("up", lab.models, status=0)
    before = _ask(lab)
    need(before[0] == OLD[1] and before[1] != NEW[1], f"the first model answers {before}")
    screened = _screened(lab)
    lab.log("learning from new letters")
    learn(lab, DESK, "models/training", "models/made/new.jsonl")
    after = _ask(lab)
    need(after == [OLD[1], NEW[1]], f"the new model answers {after}")
    lab.log("the operations log and its second place")
    lab.rackwright("log", "verify", status=0)
    entries = len(heads.read_text().splitlines())
    return (
        f"stopped at step {stopped} and finished, {versions} version registered; {CREDIT} finished in pods; the"
        f" balancer answers OpenAI's client: {NEW[0]!r}: {before[1]!r} → {after[1]!r}; {screened} answers a pod of"
        f" its team; 1 model refused by its gate; {entries} heads of the log at a second place"
    )


@line("deploy", "bank", part="work")
def test_a_bank_trains_serves_and_learns(log: Log) -> str:
    with deployment(log, "bank", _lend) as lab:
        return f"{work(lab)}; {lab.memory}"
