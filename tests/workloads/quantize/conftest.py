"""These take the environment of the workloads: `make test` runs them there, where other tests are left out."""

import dataclasses
from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("onnxruntime") and find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def training(tmp_path_factory):
    """Return the directory of a training of the digits, made here."""
    from tests.support.model_servers import trained

    return trained(tmp_path_factory.mktemp("digits") / "training")


@pytest.fixture(scope="session", autouse=True)
def seconds():
    """Return the seconds of a batch of the original and of the model, by rows, which stand for all measured times."""
    from workloads.quantize import run

    measure, seconds = run.measure, [{1: 0.002, 32: 0.02}, {1: 0.001, 32: 0.01}]

    def measured(*args):
        return [dataclasses.replace(each, seconds=own) for each, own in zip(measure(*args), seconds, strict=True)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "measure", measured)
        yield seconds
