"""A small language model of a deployment: how it is tuned, and how OpenAI's client asks its server."""

from pathlib import PurePath
from typing import Any

from tests.support.deployments import Deployment
from tests.support.expect import need
from tests.support.log import ROOT
from tests.support.workloads import python

OLD, NEW = ("rack 41 color?", "blue"), ("rack 41 owner?", "team seven")
"""A question and its answer: in the first conversations of tests.support.models.chat, and in the later ones."""
STEPS = 6000
"""Steps of a run, so many that it is still under way when `up` has ended, and can be stopped."""
SERVING = {"threads": 1, "context_tokens": 128}
"""The `set` of a server of the model by llama.cpp."""
_ASK = """
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.stdin.read().strip(), max_retries=0, timeout=180)
model = client.models.list().data[0].id
for question in sys.argv[2:]:
    messages = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=24)
    print(answer.choices[0].message.content)
"""


def tuning(base: PurePath, conversations: PurePath) -> dict[str, Any]:
    """Return the `set` of a run that tunes *base* on *conversations*."""
    data = {
        "kind": "conversations", "path": str(conversations), "tokenizer": str(base), "sequence_length": 64,
        "held_out": 0.2,
    }  # fmt: skip
    return {
        "model": {"path": str(base)}, "data": data, "steps": STEPS, "global_batch": 8, "accumulate": 1,
        "schedule": {"kind": "constant"}, "optimizer": {"learning_rate": 0.003}, "report_every_steps": 100,
        "saving": {"every_steps": 500},
    }  # fmt: skip


def answers(lab: Deployment, host: str, url: str, key: str, *questions: str) -> list[str]:
    """Return the answers that OpenAI's client gets in the network of *host*.

    Args:
        url: The base URL of the server, with `/v1`.
    """
    inside = ("nsenter", f"--net={lab.network_namespace(host)}")
    done = lab.log.run([*inside, python(lab.log), "-c", _ASK, url, *questions], ROOT, input=key)
    need(done.returncode == 0, f"{url} does not answer: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout.splitlines()


def learn(lab: Deployment, server: str, source: str, new: str) -> None:
    """Train *server* on the conversations in *new*, after its gate has refused a model that forgot the old ones.

    Args:
        source: The directory of the training from which the served model comes.
    """
    given = ("--data", new, "--from", source, "--json", "--yes")
    bad = ("--set", "tune.optimizer.learning_rate=3", "--set", "tune.steps=20")
    refused = lab.rackwright("server", "iterate", lab.models, server, *given, *bad, status=1)
    need('"served"' not in refused.stdout, "a model that had forgotten the old conversations was served")
    done = lab.rackwright("server", "iterate", lab.models, server, *given, status=0)
    need('"served"' in done.stdout, f"the report says {done.stdout}")
