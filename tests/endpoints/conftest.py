"""An object store that the tests of this folder share."""

from collections.abc import Iterator

import pytest

from tests.support.object_store import Server, seaweedfs


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running
