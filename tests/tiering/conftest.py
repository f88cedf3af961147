"""An object store that the tests of this folder share."""

from collections.abc import Iterator

import pytest

from rackwright.tiering.bucket import Bucket
from tests.support.object_store import SIGNING_KEY, Server, seaweedfs


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.fixture
def bucket(server, request) -> Bucket:
    """An empty bucket with versions, named after the test."""
    client, name = server.client(), "t-" + request.node.name.replace("_", "-")[5:55].strip("-[]").lower()
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return Bucket(name, client, signing_key=SIGNING_KEY)
