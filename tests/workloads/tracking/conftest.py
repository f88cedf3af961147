"""A real MLflow server, started once for all tests that speak to one."""

from collections.abc import Iterator

import pytest

from rackwright.toolchain import workloads
from tests.support.mlflow_server import ServedModel


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with ServedModel(tmp_path_factory.mktemp("mlflow"), workloads.tracking(print).python) as served:
        yield served
