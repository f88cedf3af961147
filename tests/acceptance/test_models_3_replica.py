"""Line 3, from training to answers: two hosts of a twin serve one model of DeepSeek-V3's shape, by the real vLLM.

Part `firewall` shows that other hosts reach none of vLLM's own ports: that takes a virtual machine.
"""

import json
import os
import shlex
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import ROOT, Log
from tests.support.models.tiny_deepseek import TOWNS, question
from tests.support.serving_lab import BALANCER, FRONT, KEY, ONE, OTHER, PORT, RACK, ServingLab
from tests.support.workloads import module, python

READY_SECONDS = 1800
FLEET = (
    RACK.replace("fleet: grove\n", "fleet: grove\nmirror: {}\n")
    .replace("services: {digits:", "services: {racks:")
    .replace(f', "10.143.0.12:{PORT}"', "")
)
"""The hosts of the serving tests, with a local repository; the balancer knows the leader alone."""
ROLES = {"base": {"security_updates": False, "packages": ["nftables"]}, "workloads": {"environments": ["vllm-cpu"]}}
SERVERS = f"""\
fleet: serving
uses: fleet.yaml
servers:
  racks:
    model: {{path: models/racks}}
    hosts: [{ONE}, {OTHER}]
    keys: {{app: {{secret: digits_app}}}}
    gate: {{accuracy_kept: null}}
    ready_seconds: {READY_SECONDS}
    set: {{parallel: 2, context_tokens: 1024, threads: 1, deadline_seconds: 300}}
    vllm:
      replica_hosts: 2
      tensor_parallel: 2
      cpu_cache_gib: 1
      tool_parser: phi4_mini_json  # other parsers force calls by a grammar with spaces, which the tiny model never ends
      options: {{structured-outputs-config: {{backend: xgrammar, disable_any_whitespace: true}}}}
"""
TRAINING = (
    "steps=240", "global_batch=8", "accumulate=1", "optimizer.learning_rate=0.001", "schedule.kind=cosine",
    "schedule.warmup_steps=20", "device=cpu", "sharding=full", "report_every_steps=40", "saving.every_steps=240",
)  # fmt: skip
CLIENT = f"""
import json, sys, time
from openai import OpenAI
client = OpenAI(base_url="http://{FRONT}:{PORT}/v1", api_key=sys.argv[1], timeout=300, max_retries=0)
messages = [{{"role": "user", "content": sys.argv[2]}}]
common = {{"model": "racks", "messages": messages, "temperature": 0, "max_tokens": 40}}
whole = client.chat.completions.create(**common).choices[0].message.content
pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**common, stream=True)]
place = {{"type": "object", "properties": {{"place": {{"enum": ["hill", "river"]}}}}, "required": ["place"],
         "additionalProperties": False}}
form = {{"type": "json_schema", "json_schema": {{"name": "place", "strict": True, "schema": place}}}}
structured = client.chat.completions.create(**common, response_format=form).choices[0].message.content
tool = {{"type": "function", "function": {{"name": "go", "strict": True, "parameters": place}}}}
called = client.chat.completions.create(  # a call is about 70 tokens of a byte each
    **{{**common, "max_tokens": 200}}, tools=[tool], tool_choice={{"type": "function", "function": {{"name": "go"}}}}
).choices[0].message.tool_calls[0].function
print(json.dumps({{"whole": whole, "stream": "".join(pieces), "structured": structured, "tool": called.name,
                  "arguments": called.arguments}}))
"""


@line("models", 3, part="replica")
def test_a_trained_model_is_served_by_two_hosts_as_one_replica(log: Log) -> str:
    """Trained by two processes, exported, published, served with tensor parallel 2; a lost host is noticed and back."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    directory = log.empty_directory()
    lab = ServingLab(directory / "project", FLEET, log, "grove", containers=(ONE, OTHER, BALANCER))
    with lab:
        lab.edit(_add_roles)
        lab.add_stack("serving", SERVERS)
        loss = _make_model(log, directory, lab.directory / "models" / "racks")
        lab.start()
        log("fetching vLLM and its packages")
        lab.rackwright("lock", "--fetch", "grove", status=0)
        log("making the hosts, with vLLM")
        began = log.seconds
        lab.up()
        installed = log.seconds - began
        lab.stack = "serving"
        log("serving")
        began = log.seconds
        lab.up()
        ready = log.seconds - began
        try:
            answers = _check_answers(lab)
            lost = _lose_a_host(lab, answers)
        except BaseException:  # pytest's own included
            for host in (ONE, OTHER):  # what the engine printed, for readers of the log
                lab.ssh(host, "journalctl --quiet --no-pager --output=cat --unit=server-racks --lines=100", status=None)
            raise
        lab.audit(status=0)
    return (
        f"trained to a loss of {loss:.3f}, vLLM installed on two hosts in {installed:.0f} s, ready in {ready:.0f} s; "
        f"text, stream, structured output and a named tool by OpenAI's client through the balancer; {lost}"
    )


def _add_roles(fleet: Any) -> None:
    for host in (ONE, OTHER):
        fleet["hosts"][host]["roles"] = deepcopy(ROLES)  # YAML would write one object as an anchor
    fleet["hosts"][BALANCER]["roles"]["load_balancer"]["answer_seconds"] = 300


def _make_model(log: Log, directory: Path, published: Path) -> float:
    """Train, export and publish the model, and return the loss at the end of the training."""
    _run(log, "tests.support.models.tiny_deepseek", directory)
    log("training")
    data = {
        "kind": "conversations", "path": str(directory / "chats.jsonl"), "tokenizer": str(directory / "model"),
        "sequence_length": 64, "held_out": 0.0,
    }  # fmt: skip
    model = {"kind": "hugging-face", "path": str(directory / "model"), "lora": None}
    changes = (f"model={json.dumps(model)}", f"data={json.dumps(data)}", *TRAINING)
    options = [word for change in changes for word in ("--set", change)]
    torchrun = ("torchrun", "--standalone", "--nproc-per-node", "2")
    module(log, "lora", "--out", str(directory / "run"), *options, launcher=torchrun)
    lines = [json.loads(text) for text in (directory / "run" / "metrics.jsonl").read_text().splitlines()]
    log("exporting")
    _run(
        log,
        "workloads.export",
        directory / "run",
        "--to",
        "huggingface",
        "--dtype",
        "bf16",
        "--out",
        directory / "export",
    )
    _run(log, "workloads.serving.vllm", directory / "export", "--name", "racks", "--out", published)
    return float([each["loss"] for each in lines if "loss" in each and "event" not in each][-1])


def _run(log: Log, name: str, *arguments: object) -> None:
    argv = [python(log), "-m", name, *map(str, arguments)]
    done = log.run(argv, ROOT, {**os.environ, "OMP_NUM_THREADS": "1"}, timeout=1800)
    need(done.returncode == 0, f"{name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")


def _ask(lab: ServingLab, host: str) -> dict[str, str]:
    """Return the answers of the model to OpenAI's client on another host, about the rack *host*."""
    asked = f"- {KEY} {shlex.quote(question(host))} <<'END'\n{CLIENT}\nEND"
    script = f"$(echo /opt/rackwright/workloads/vllm-cpu-*/bin/python) {asked}"
    answers: dict[str, str] = json.loads(lab.ssh(OTHER, script).strip().splitlines()[-1])
    return answers


def _check_answers(lab: ServingLab) -> dict[str, str]:
    """Check the answers to OpenAI's client, and return those about one rack."""
    for host, place in TOWNS.items():
        answers = _ask(lab, host)
        need(answers["whole"] == answers["stream"] == place, f"asked for {host}, it answers {answers}")
        for text in (answers["structured"], answers["arguments"]):
            need(json.loads(text)["place"] in ("hill", "river"), f"not of the schema: {text}")
        need(answers["tool"] == "go", f"another tool: {answers['tool']}")
    return answers


def _lose_a_host(lab: ServingLab, answers: dict[str, str]) -> str:
    """Kill the worker's processes, and return how long the replica took to be back."""
    lab.log("losing a host")
    began = lab.log.seconds
    lab.ssh(OTHER, "systemctl kill --signal=KILL server-racks.service")
    eventually(lambda: lab.ask("/v1/models")[0] != 200, "the leader has noticed", 120)
    noticed = lab.log.seconds - began
    eventually(lambda: lab.ask("/v1/models")[0] == 200, "the replica is back", READY_SECONDS)
    back = lab.log.seconds - began
    host = list(TOWNS)[-1]
    need(_ask(lab, host)["whole"] == answers["whole"], "it answers otherwise than before")
    return f"a lost host was noticed after {noticed:.0f} s, and the replica back after {back:.0f} s"
