"""These take the environment of the workloads: `make test` runs them there, where other tests are left out."""

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("onnxruntime") and find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def training(tmp_path_factory):
    """Return the directory of a training of the digits, made here."""
    from tests.support.model_servers import trained

    return trained(tmp_path_factory.mktemp("digits") / "training")
