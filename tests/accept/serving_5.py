"""Line 5: whatever is malformed gets a reason, and nobody else pays for it."""

import json
import sys

from tests.accept.harness import Log, check, need
from tests.accept.serving_2 import tests


@check("serving.5[malformed]")
def what_is_malformed_gets_a_reason(log: Log) -> str:
    """500 made-up requests, some 50 wrong ones over real HTTP, slow clients, and bodies that are too large."""
    said = [
        tests(log, f"tests/workloads/serving/{name}") for name in ("test_wire.py", "test_server.py", "test_language.py")
    ]
    return f"every one is a 4xx with its reason; {'; '.join(said)}"


@check("serving.5[memory]")
def memory_stays_what_it_is(log: Log) -> str:
    log("5 minutes under 16 clients")
    done = log.run([sys.executable, "-m", "tests.bench.memory"], timeout=1200)
    need(done.stdout, f"it was not measured: {done.stderr.strip().splitlines()[-1:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    figures = (
        f"{told['first_mb']} MB after the first part, {told['last_mb']} MB after {told['seconds']} s and "
        f"{told['requests']} requests ({told['growth']:+.1%}, at most 5%)"
    )
    need(done.returncode == 0, figures)
    return figures
