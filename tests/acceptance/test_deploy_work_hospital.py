"""The hospital at work: a small model learns letters, is served, asked by OpenAI's client, and learns more."""

from typing import Any

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.deployments import Deployment, deployment
from tests.support.expect import need
from tests.support.log import Log
from tests.support.small_chat import NEW, OLD, SERVING, answers, learn, tuning

HOST, RUN, SERVER, PORT = "service-01", "letters", "triage", 8081
OUT = f"/srv/hot/runs/{RUN}"


def with_training(fleet: Any) -> None:
    """Give the service host alone the environment that trains."""
    servers = fleet["groups"]["servers"]["roles"]["workloads"]
    fleet["hosts"][HOST]["roles"]["workloads"] = {**servers, "environments": ["training", "serving"]}
    servers["environments"] = ["serving"]


def on_processors(fleet: Any) -> None:
    """Leave what needs vLLM on GPUs, and let llama.cpp serve the small model, which a twin can."""
    fleet["runs"][RUN].pop("privacy", None)  # a private model repeats no single letter, which this line asks it for
    server = fleet["servers"][SERVER]
    del server["vllm"]
    server |= {"model": {"path": "models/triage"}, "set": SERVING}
    fleet["servers"] = {SERVER: server}


def ask(lab: Deployment) -> list[str]:
    """Return the answers to the old question and to the new one, on the server's own host."""
    address = lab.fleet.hosts[HOST].nics[0].addresses[0].partition("/")[0]
    return answers(lab, HOST, f"http://{address}:{PORT}/v1", derive_value("triage_wards"), OLD[0], NEW[0])


def work(lab: Deployment) -> str:
    """Train, judge, export, serve, ask and train again."""
    lab.log("a base model and letters")
    lab.workload("tests.support.models.chat", "make", "models/made")
    lab.edit(with_training)
    lab.set("environments", ["training", "serving"])
    lab.rackwright("lock", "--fetch", lab.stack, status=0)
    lab.up()
    # at the same paths as here, where it is exported and learns more
    base, letters = (lab.directory / "models" / "made" / name for name in ("base", "old.jsonl"))
    for path in (base, letters):
        lab.send(HOST, path, str(path))
    lab.edit_models(on_processors)
    stopped = lab.train(RUN, HOST, OUT, tuning(base, letters))
    lab.log("its model: judged, exported and served")
    lab.copy(HOST, OUT, lab.directory / "models/training")
    merged = ("--to", "gguf", "--merge-adapters")
    lab.workload("workloads.export", "models/training", *merged, "--out", "models/export")
    lab.workload("workloads.serving.gguf", "models/export/model.gguf", "--name", "triage", "--out", "models/triage")
    lab.rackwright("server", "promote", lab.models, SERVER, "models/triage", status=0)
    lab.rackwright("up", lab.models, status=0)
    before = ask(lab)
    need(before[0] == OLD[1] and before[1] != NEW[1], f"the first model answers {before}")
    lab.log("learning from new letters")
    learn(lab, SERVER, "models/training", "models/made/new.jsonl")
    after = ask(lab)
    need(after == [OLD[1], NEW[1]], f"the new model answers {after}")
    return (
        f"stopped at step {stopped} and finished; llama.cpp on {HOST} answers OpenAI's client: {NEW[0]!r}:"
        f" {before[1]!r} → {after[1]!r}; 1 model refused by its gate"
    )


@line("deploy", "hospital", part="work")
def test_a_hospital_trains_serves_and_learns(log: Log) -> str:
    with deployment(log, "hospital") as lab:
        return f"{work(lab)}; {lab.memory}"
