"""These take the environment of the workloads: `make test` runs them there, where other tests are left out."""

import subprocess
from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("onnxruntime") and find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Return the directory of the digits' classifier, trained here and exported."""
    from tests.support.model_servers import digits

    return digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def free():
    """Return a server whose model computes as fast as it is asked."""
    from tests.support.model_servers import Held, here

    runtime = Held()
    for _ in range(10_000):
        runtime.go.release()
    with here(runtime, body_bytes=4096, max_batch=4) as server:
        yield server


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Return a host on which nothing serves yet."""
    from tests.workloads.serving.switched import Host

    made = Host(tmp_path, monkeypatch)
    yield made
    subprocess.run(["systemctl", "stop", "server-digits.service"], check=False)
