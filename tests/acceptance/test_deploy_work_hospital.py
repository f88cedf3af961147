"""The hospital at work: a small model learns letters, is served, asked by OpenAI's client, and learns more."""

import json
from typing import Any

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.deployments import Deployment, deployment
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python

HOST, RUN, SERVER, PORT = "service-01", "letters", "triage", 8081
OUT = f"/srv/hot/runs/{RUN}"
OLD, NEW = ("rack 41 color?", "blue"), ("rack 41 owner?", "team seven")
"""A question and its answer: in the letters, and in later ones."""
ASK = """
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.stdin.read().strip(), max_retries=0, timeout=180)
model = client.models.list().data[0].id
for question in sys.argv[2:]:
    messages = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=24)
    print(answer.choices[0].message.content)
"""


def with_training(fleet: Any) -> None:
    """Give the service host the environment that trains, which the smaller hospital leaves out."""
    roles = fleet["hosts"][HOST]["roles"]
    roles["workloads"] = {"environments": ["training", "serving"]}


def on_processors(fleet: Any) -> None:
    """Leave what needs vLLM on GPUs, and let llama.cpp serve the small model, which a twin can."""
    fleet["runs"][RUN].pop("privacy", None)  # a private model repeats no single letter, which this line asks it for
    server = fleet["servers"][SERVER]
    del server["vllm"]
    server |= {"model": {"path": "models/triage"}, "set": {"threads": 1, "context_tokens": 128}}
    fleet["servers"] = {SERVER: server}


def answers(lab: Deployment, *questions: str) -> list[str]:
    """Return the answers of the server to OpenAI's client on its own host."""
    address = lab.fleet.hosts[HOST].nics[0].addresses[0].partition("/")[0]
    argv = [
        *("nsenter", f"--net={lab.network_namespace(HOST)}", python(lab.log), "-c", ASK),
        *(f"http://{address}:{PORT}/v1", *questions),
    ]
    done = lab.log.run(argv, ROOT, input=derive_value("triage_wards"))
    need(done.returncode == 0, f"{SERVER} does not answer: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout.splitlines()


def work(lab: Deployment) -> str:
    """Train, judge, export, serve, ask and train again."""
    lab.log("a base model and letters")
    lab.workload("tests.support.models.chat", "make", "models/made")
    lab.edit(with_training)
    lab.rackwright("lock", "--fetch", lab.stack, status=0)
    lab.up()
    # at the same paths as here, where it is exported and learns more
    base, letters = (lab.directory / "models" / "made" / name for name in ("base", "old.jsonl"))
    for path in (base, letters):
        lab.send(HOST, path, str(path))
    lab.edit_models(on_processors)
    data = {
        "kind": "conversations", "path": str(letters), "tokenizer": str(base), "sequence_length": 64, "held_out": 0.2
    }  # fmt: skip
    changes = {
        "model": {"path": str(base)}, "data": data,
        "steps": 80, "global_batch": 8, "accumulate": 1, "schedule": {"kind": "constant"},
        "optimizer": {"learning_rate": 0.003}, "report_every_steps": 10, "saving": {"every_steps": 20},
    }  # fmt: skip
    stopped = lab.train(RUN, HOST, OUT, changes)
    lab.log("its model: judged, exported and served")
    lab.copy(HOST, OUT, lab.directory / "models/training")
    lab.workload("workloads.export", "models/training", "--to", "gguf", "--out", "models/export")
    lab.workload("workloads.serving.gguf", "models/export/model.gguf", "--name", "triage", "--out", "models/triage")
    lab.rackwright("server", "promote", lab.models, SERVER, "models/triage", status=0)
    lab.rackwright("up", lab.models, status=0)
    before = answers(lab, OLD[0], NEW[0])
    need(before[0] == OLD[1] and before[1] != NEW[1], f"the first model answers {before}")
    lab.log("learning from new letters")
    given = ("--data", "models/made/new.jsonl", "--from", "models/training", "--json", "--yes")
    refused = lab.rackwright("server", "iterate", lab.models, SERVER, *given, "--set", "tune.steps=1", status=1)
    need(json.loads(refused.stdout)["outcome"] != "served", "a model that had learned nothing was served")
    report = json.loads(lab.rackwright("server", "iterate", lab.models, SERVER, *given, status=0).stdout)
    need(report["outcome"] == "served", f"the report says {report}")
    after = answers(lab, OLD[0], NEW[0])
    need(after == [OLD[1], NEW[1]], f"the new model answers {after}")
    return (
        f"stopped at step {stopped} and finished; llama.cpp on {HOST} answers OpenAI's client: {NEW[0]!r}:"
        f" {before[1]!r} → {after[1]!r}; 1 model refused by its gate"
    )


@line("deploy", "hospital", part="work")
def test_a_hospital_trains_serves_and_learns(log: Log) -> str:
    with deployment(log, "hospital") as lab:
        return work(lab)
