"""Line 5: the usual clients of KServe's and OpenAI's protocols get the answers that they expect."""

import json
import os
from typing import Any

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python

LARGEST_DIFFERENCE = 1e-5
CODES = {"400": "StatusCode.INVALID_ARGUMENT", "404": "StatusCode.NOT_FOUND"}


def _report_of(log: Log, module: str) -> dict[str, Any]:
    """Return the report that *module* prints last, as JSON, after it has asked a server with a real client."""
    argv = [python(log), "-m", module, str(log.empty_directory())]
    done = log.run(argv, ROOT, {**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600)
    if done.returncode:
        pytest.fail(f"{module} could not ask: {done.stderr.strip().splitlines()[-1:]}", pytrace=False)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@line("models2", 5, "triton")
def test_tritons_clients_agree_over_http_and_grpc(log: Log) -> str:
    """The real clients ask the digits over both protocols, and are refused with the same reasons."""
    report = _report_of(log, "tests.support.triton_clients")
    for protocol in ("http", "grpc"):
        need(report[protocol] <= LARGEST_DIFFERENCE, f"over {protocol} an answer differs by {report[protocol]}")
    refused = list(zip(report["http refused"], report["grpc refused"], strict=True))
    for (status, reason), (code, other) in refused:
        need(CODES.get(status) == code, f"HTTP has {status}, and gRPC {code}")
        need(reason == other, f"the reasons differ: {reason}; {other}")
    largest = max(report["http"], report["grpc"])
    return f"{report['requests']} requests over each, largest difference {largest:.1g}; {len(refused)} refusals alike"


@line("models2", 5, "openai")
def test_the_client_of_openai_gets_schemas_tools_and_embeddings(log: Log) -> str:
    """The real client asks SmolLM2 for answers with a schema, log-probabilities, calls of functions and embeddings."""
    report = _report_of(log, "tests.support.openai_answers")
    for name in ("schemas", "tokens", "calls", "vectors"):
        need(report[name] > 0 and report[f"right {name}"] == report[name], f"of {name}: {report}")
    refusals = {
        "tools": (400, "writes no tools"),
        "embeddings": (404, "writes texts"),
        "chat": (404, "embedding model"),
    }
    for name, (status, text) in refusals.items():
        found = report[f"refused {name}"]
        need(found[0] == status and text in found[1], f"of {name}, refused where the model has none: {found}")
    figures = f"{report['schemas']} answers with their schemas, {report['tokens']} tokens with log-probabilities"
    return f"{figures}, {report['calls']} checks of calls and {report['vectors']} of vectors, {len(refusals)} refusals"


@line("models2", 5, "quotas")
def test_a_quota_holds_over_two_servers_and_after_their_restarts(log: Log) -> str:
    """The real client uses up a day at both; one is stopped, the other killed, and a third has a full drive."""
    report = _report_of(log, "tests.support.quota_servers")
    used, most = sum(report["tokens"]), report["quota"] + len(report["tokens"]) * report["largest"]
    need(report["quota"] <= used < most, f"{used} tokens of {report['quota']} were answered: {report}")
    need(report["refused"] == 4 * [[429, "insufficient_quota"]], f"before and after the restarts: {report['refused']}")
    need(not report["warned after SIGTERM"], f"a stop is no crash: {report['warned after SIGTERM']}")
    need(len(report["warned after SIGKILL"]) == 1, f"the log has nothing of the crash: {report}")
    need(report["full"] == [503, None] and report["freed"], f"with a full drive: {report['full']}, {report['freed']}")
    return f"{used} tokens of {report['quota']} over two servers, 4 refusals around 2 restarts, 1 on a full drive"
