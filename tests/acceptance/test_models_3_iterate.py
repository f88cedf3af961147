"""Line 3: one command brings new conversations from training to the answers of a server on a host."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.models import FIRST
from tests.support.workloads import python

HOST, SERVER, PORT = "hazel", "chat", 8080
OLD, NEW = ("rack 41 color?", "blue"), ("rack 41 owner?", "team seven")
"""A question and its answer: in the first conversations, and in the new ones."""
RACK = f"""\
fleet: copse
hosts:
  {HOST}:
    profile: virtual
    os: debian-12
    address: 10.47.0.11
    identity: {{serial: COPSE-1}}
    roles: {{base: {{security_updates: false, packages: [curl, libgomp1]}}}}
"""
SERVERS = f"""\
fleet: serving
uses: fleet.yaml
servers:
  {SERVER}:
    model: {{path: models/{FIRST}}}
    hosts: [{HOST}]
    listen: everywhere
    keys: {{app: {{secret: chat_app}}}}
    gate: {{accuracy_kept: null}}
    environment: {{path: /opt/workloads}}
    ready_seconds: 600
    set: {{threads: 1, parallel: 1, context_tokens: 128, drain_seconds: 0, deadline_seconds: 120}}
"""


class ChatLab(Lab):
    """A lab with the stack of a language model's server and a second stack of its host."""

    def ask(self, question: str) -> str:
        """Return the answer of the host's server to an OpenAI chat completion."""
        message = {"role": "user", "content": question}
        body = json.dumps({"model": "chat", "messages": [message], "temperature": 0, "max_tokens": 24})
        url = f"http://127.0.0.1:{PORT}/v1/chat/completions"
        header = f"-H 'Authorization: Bearer {derive_value('chat_app')}' -H 'Content-Type: application/json'"
        output = self.ssh(HOST, f"curl -s -m 180 {header} {url} -d @- <<'END'\n{body}\nEND\n")
        answer = json.loads(output)
        need("choices" in answer, f"the server says {output[-300:]}")
        return str(answer["choices"][0]["message"]["content"])


@contextmanager
def chat_lab(log: Log) -> Iterator[ChatLab]:
    """Yield a lab in which one host serves the model that knows the first conversations."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    directory = log.empty_directory() / "project"
    with ChatLab(directory, RACK, log, "copse", containers=[HOST], mirrors=True, workloads=True) as lab:
        lab.add_stack("serving", SERVERS)
        log("training the first model")
        argv = [python(log), "-m", "tests.support.models.chat", "make", str(lab.directory / "models")]
        done = log.run(argv, ROOT, {**os.environ, "OMP_NUM_THREADS": "1"}, timeout=1800)
        need(done.returncode == 0, f"the model could not be made: {done.stderr.strip().splitlines()[-1:]}")
        lab.start()
        log("making the host")
        lab.up()
        lab.stack = "serving"
        log("serving the first model")
        lab.up()
        yield lab


@line("models", 3, part="iterate")
def test_new_conversations_become_answers_of_a_server(log: Log) -> str:
    """llama.cpp in a container serves a model that knows one sort of question, and learns another one."""
    with chat_lab(log) as lab:
        before = lab.ask(NEW[0])
        need(lab.ask(OLD[0]) == OLD[1] and before != NEW[1], f"the first model answers {before!r}")
        given = ("--data", "models/new.jsonl", "--from", "models/training", "--json", "--yes")
        log("learning from new conversations, up to the host")
        done = lab.rackwright("server", "iterate", lab.stack, SERVER, *given, status=0)
        report = json.loads(done.stdout)
        need(report["outcome"] == "served", f"the report says {report}")
        answers = [lab.ask(question) for question, _ in (OLD, NEW)]
        need(answers == [OLD[1], NEW[1]], f"the new model answers {answers}")
        again = json.loads(lab.rackwright("server", "iterate", lab.stack, SERVER, *given, status=0).stdout)
        for stage in ("tune", "gate", "publish", "up"):
            need(again["stages"][stage] == report["stages"][stage], f"{stage} was done again: {again['stages']}")
        new, old = report["accuracy"]
        times = ", ".join(f"{name} {each['seconds']:.0f} s" for name, each in report["stages"].items())
        return (
            f"{report['before']['version']} → {report['after']['version']}: {NEW[0]!r}: {before!r} → {answers[1]!r};"
            f" token accuracy on new conversations {new['before']:.1%} → {new['tuned']:.1%}, on old ones"
            f" {old['before']:.1%} → {old['tuned']:.1%}; {times}"
        )
