"""Line 5: OpenAI's protocol through our server and at its vLLM, and what the server costs."""

import json
import os
import sys

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.models.protocol_cases import CASES
from tests.support.models.vllm_server import python, served
from workloads.serving.forwarded_routes import ROUTES

PAGE = ROOT / "docs" / "reference" / "openai.md"
SECRET = "hunter2"
"""A word of prompts that no log may have."""


@line("models", 5, part="protocol")
def test_each_field_of_OpenAI_is_answered_as_by_vLLM_itself_or_refused_as_documented(log: Log) -> str:
    with served(log, parallel=4) as (reach, output):
        config = log.directory / "reach.json"
        config.write_text(json.dumps(reach))
        compare = [python(log), "-m", "tests.support.models.compare_protocols", str(config), SECRET]
        done = log.run(compare, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=1200)
        need(done.returncode == 0, f"the comparison fails: {done.stderr[-500:]}")
    lines = [json.loads(each) for each in done.stdout.splitlines()]
    requests = [each for each in lines if each["kind"] == "request"]
    others = {case.id: 400 for case in CASES if case.refused} | {"/v1/models/{model}": 200}
    unequal = [each for each in requests if (each["name"] in others) == each["equal"]]
    need(not unequal, f"{len(unequal)} requests differ: {json.dumps(unequal)[:1500]}")
    wrong = [each["name"] for each in requests if each["front"] != others.get(each["name"], each["front"])]
    need(not wrong, f"another answer than documented: {', '.join(wrong)}")
    retried = [each["name"] for each in requests if each["front"] >= 500]
    need(not retried, f"clients repeat {', '.join(retried)}")
    need(SECRET not in output.read_text(), "a log has a word of a prompt")
    forwarded = {f"POST {route.path}" for route in ROUTES}
    routes = [each for each in lines if each["kind"] == "route"]
    wrong = [each["name"] for each in routes if (each["front"] == 404) == (each["name"] in forwarded)]
    need(not wrong, f"routes that should be forwarded or not: {', '.join(wrong)}")
    render = [python(log), "-m", "tests.support.models.protocol_page"]
    fresh = log.directory / PAGE.name
    fresh.write_text(log.run(render, env={**os.environ, "PYTHONPATH": str(ROOT)}, input=done.stdout).stdout)
    written = PAGE.read_text() if PAGE.exists() else ""
    need(written == fresh.read_text(), f"{PAGE.relative_to(ROOT)} is not what was found; copy {fresh} there")
    answers = sum(each["front"] == 200 for each in requests)
    return (
        f"{len(requests) - len(others)} requests are equal, {answers} answered with 200; {len(others) - 1} refused as"
        f" documented; {len(routes)} routes of vLLM"
    )


@line("models", 5, part="overhead")
def test_the_server_costs_less_than_LiteLLMs_proxy_at_64_streams(log: Log) -> str:
    done = log.run([sys.executable, "-m", "benchmarks.forwarding"], timeout=3000)
    need(done.returncode == 0, f"the benchmark fails: {done.stderr[-500:]}")
    results = json.loads(done.stdout.splitlines()[-1])
    for what, ways in results.items():
        own, other = (ways[name]["cpu_us_per_token"] for name in ("rackwright", "litellm"))
        need(own < other, f"{what}: {own:.0f} us of processor time a token, LiteLLM {other:.0f}")
    return "; ".join(f"{what}: {_figures(ways)}" for what, ways in results.items())


def _figures(ways: dict[str, dict[str, float]]) -> str:
    """Return what each proxy takes for a token, and what it adds to the time to the first one."""
    alone = ways["alone"]["first_ms"]
    return ", ".join(
        f"{name} {of['cpu_us_per_token']:.0f} us a token, first token {of['first_ms'] - alone:+.0f} ms"
        for name, of in ways.items()
        if name != "alone"
    )
