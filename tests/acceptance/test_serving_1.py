"""Line 1: a model is served from two hosts behind one address, and OpenAI's client streams from a language model."""

import json
import os

import pytest

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import Log
from tests.support.models import FIRST
from tests.support.serving_lab import HOSTS, SERVER, serving_lab, version
from tests.support.tutorials import paste, train
from tests.support.workloads import python

ZEROS = [0.0] * 64


@line("serving", 1, part="digits")
def test_two_hosts_serve_the_digits_behind_one_address(log: Log) -> str:
    """`up` of the hosts' stack, then of the servers'; curl gets answers; preview, audit and status agree."""
    with serving_lab(log) as lab:
        wanted = version(lab, FIRST)
        need(lab.versions() == dict.fromkeys(HOSTS[:2], wanted), f"hosts serve {lab.versions()}, wanted {wanted}")
        need(lab.differing() == set(), "right after `up` something differs")
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8, 8], "data": ZEROS}]})
        status, answer = lab.ask(f"/v2/models/{SERVER}/infer", "-d", body)
        need(status == 200, f"curl got {status}: {answer}")
        need(json.loads(answer)["model_version"] == wanted, f"the answer says {answer}")
        status, answer = lab.ask(f"/v2/models/{SERVER}")
        need(status == 200 and json.loads(answer)["lineage"]["gate"]["passed"], f"the model says {status}: {answer}")
        need(lab.ask("/metrics")[0] == 404, "figures of one member are passed on")
        refused = lab.ssh(
            HOSTS[2], f"curl -s -o /dev/null -w '%{{http_code}}' http://10.143.0.13:8080/v2/models/{SERVER}"
        )
        need(refused == "401", f"without a key curl got {refused}")

        def counted() -> dict[str, int]:
            return {host: each["requests"] for host, each in lab.status()["hosts"].items()}

        before = counted()
        with lab.load(4) as load:
            eventually(
                lambda: all(now > before[host] + 10 for host, now in counted().items()), "both hosts answer", 600
            )
        need(not load["lost"], f"lost {load['lost'][:3]}")
        where, answered = " and ".join(HOSTS[:2]), sum(load["answered"].values())
        return f"version {wanted} on {where} behind one address, {answered} requests"


@line("serving", 1, part="language")
def test_the_client_of_openai_streams_from_smollm2(log: Log) -> str:
    """SmolLM2-135M on this computer, published and served with a key: the client has it piece by piece, and whole."""
    argv = [python(log), "-m", "tests.support.models.talk", str(log.empty_directory())]
    done = log.run(argv, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=1200)
    if done.returncode:
        pytest.fail(f"it could not be asked: {done.stderr.strip().splitlines()[-1:]}", pytrace=False)
    report = json.loads(done.stdout)
    came, tokens = report["came"], report["tokens"]
    need(report["refused"] == "invalid_api_key", f"another key gets {report['refused']}")
    need(len(came) > 20 and came[-1] > 2 * came[0], f"it came in {len(came)} pieces, the last after {came[-1:]} s")
    need(report["same_as_whole"], "whole it is another answer")
    need(report["answered_by"] == report["version"], f"{report['answered_by']} answered, not {report['version']}")
    need(report["status"] == 0 and report["log"]["tokens"] == tokens, f"the server ended with {report['status']}")
    rate = (tokens - 1) / (came[-1] - came[0])
    return f"version {report['version']}: {tokens} tokens, the first after {came[0]:.2f} s, then {rate:.0f} a second"


@line("serving", 1, part="pasted")
def test_the_serving_tutorial_works_as_pasted(log: Log) -> str:
    train(log)
    lines, printed = paste(log, "guides/serve.md")
    for answer in ("refused, status 1", "refused, status 2", "no such certificate, status 2", '"model_version":'):
        need(answer in printed, f"it did not print {answer}")
    return f"{lines} lines of the tutorial ran, from quantising to OpenAI's client"
