"""Line 5: whatever is malformed gets a reason, and nobody else pays for it."""

from tests.accept.harness import Log, check
from tests.accept.serving_2 import tests


@check("serving.5[malformed]")
def what_is_malformed_gets_a_reason(log: Log) -> str:
    """500 made-up requests, some 50 wrong ones over real HTTP, slow clients, and bodies that are too large."""
    said = [
        tests(log, f"tests/workloads/serving/{name}") for name in ("test_wire.py", "test_server.py", "test_language.py")
    ]
    return f"every one is a 4xx with its reason; {'; '.join(said)}"
