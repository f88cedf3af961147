"""Line 5: each malformed request gets a reason, and costs no other client anything."""

import json
import re
import sys

from benchmarks.peers.servers import ours, running
from benchmarks.serving import PORT, model
from rackwright.toolchain import workloads
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python, run_tests

SCHEMATHESIS = ROOT / "tests/support/models/schemathesis.txt"
CHECKED = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "missing_required_header", "unsupported_method", "use_after_free",
)  # fmt: skip
"""Not that what fits the schema is accepted: a shape has to fit the data and the model, which no schema says."""


@line("serving", 5, part="malformed")
def test_each_malformed_request_gets_a_reason(log: Log) -> str:
    """500 made-up requests, some 50 wrong ones over real HTTP, slow clients, and bodies that are too large."""
    done = [
        run_tests(log, f"tests/workloads/serving/{name}")
        for name in (
            "test_wire.py",
            "test_server.py",
            "test_server_connections.py",
            "test_language.py",
            "test_language_limits.py",
        )
    ]
    return f"every one is a 4xx with its reason; {'; '.join(done)}"


@line("serving", 5, part="memory")
def test_memory_of_a_server_does_not_grow(log: Log) -> str:
    log("5 minutes under 16 clients")
    done = log.run([sys.executable, "-m", "benchmarks.memory"], timeout=1200)
    need(done.stdout, f"it was not measured: {done.stderr.strip().splitlines()[-1:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    figures = (
        f"{report['first_mb']} MB after the first part, {report['last_mb']} MB after {report['seconds']} s and "
        f"{report['requests']} requests ({report['growth']:+.1%}, at most 5%)"
    )
    need(done.returncode == 0, figures)
    return figures


@line("serving", 5, part="described")
def test_requests_that_the_openapi_document_allows_are_answered(log: Log) -> str:
    """Schemathesis asks a server of each protocol what its OpenAPI document allows, and what it does not."""
    st = workloads.ensure_lock("schemathesis", SCHEMATHESIS, "100 MB on the drive", log).python.with_name("st")
    directory = log.empty_directory()
    log("training the digits, publishing SmolLM2")
    digits = model(directory)
    done = log.run([python(log), "-m", "tests.support.models.smollm2", str(directory / "talk")])
    need(done.returncode == 0, f"it was not published: {done.stderr.strip().splitlines()[-1:]}")
    lines = []
    servers = (
        ("digits", ours(digits, PORT), 300, (*CHECKED, "negative_data_rejection")),
        # of a word where a list of words may be as well it says that it should be refused
        ("smollm2", ours(directory / "talk", PORT, "context_tokens=64"), 40, CHECKED),
    )
    for name, server, examples, checked in servers:
        log(f"asking the server of {name}")
        with running(server, PORT, directory / f"{name}.log"):
            asked = ("--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--seed", "1")
            which = ("--checks", ",".join(checked), "--request-timeout", "60", "--no-color")
            document = f"http://127.0.0.1:{PORT}/openapi.json"
            done = log.run([str(st), "run", document, *asked, *which], cwd=directory, timeout=1200)
        need(done.returncode == 0, f"{name}: {' '.join(re.findall(r'- ST.*', done.stdout))}")
        [counted] = re.findall(r"(\d+) generated, \1 passed", done.stdout)
        lines.append(f"{counted} of {name}")
    return f"answered as described: {', '.join(lines)}"
