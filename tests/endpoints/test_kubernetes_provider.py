"""A cluster of others in the provider: compared, kept when it does not answer, and let go without an answer."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rackwright.cli.removal import plan_removal
from rackwright.endpoints import open_endpoints
from rackwright.endpoints.kubernetes_facts import NODES
from rackwright.hosts.rollout import RolloutGate
from rackwright.kinds.cluster import ClusterKind
from rackwright.provider.site import Site
from rackwright.schema.cluster import ClusterNode
from rackwright.schema.rollout import Rollout
from rackwright.stack import declare
from tests.support.canned_api import CannedApi, canned_api, items, node, refusal, usual
from tests.support.operations_log import in_memory
from tests.support.provider_rig import Rig, rig
from tests.support.recorded_hosts import SHARED
from tests.support.toy_kind import Memory, execute

TOKEN = "token-of-an-account-that-reads"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CannedApi]:
    with canned_api(tmp_path_factory.mktemp("api")) as running:
        yield running


class Clusters:
    """A provider of one cluster, and its inputs while the fleet declares it."""

    def __init__(self, api: CannedApi) -> None:
        changes = {"api": api.declared, "nodes": {"gpu-21": ClusterNode(labels={"rack": "c2"})}}
        clusters = {"shared": SHARED.fleet.clusters["shared"].model_copy(update=changes)}
        fleet = SHARED.fleet.model_copy(update={"clusters": clusters})
        self.stack = replace(SHARED, fleet=fleet).with_secrets({"shared_token": TOKEN})
        [declared] = declare(self.stack)
        self.inputs: dict[str, Any] = json.loads(json.dumps(declared.inputs))
        self.is_declared = True

    def open_site(self, name: str, secrets: Any) -> Site:
        gate = RolloutGate(Rollout(), lambda: False)
        found = open_endpoints(self.stack)
        find_inputs = lambda token, id: self.inputs if self.is_declared else None  # noqa: E731
        log = in_memory()
        return Site(self.stack.repository, Memory(), execute, gate, log, find_inputs, endpoints=found)


@pytest.fixture
def clusters(server: CannedApi) -> Clusters:
    server.answers = usual()
    server.questions.clear()
    return Clusters(server)


@pytest.fixture
def provider(clusters: Clusters) -> Iterator[Rig]:
    with rig({ClusterKind.token: ClusterKind()}, clusters.open_site) as made:
        made.token = ClusterKind.token
        yield made


def test_a_cluster_as_declared_is_taken_into_the_state_without_its_address_and_token(
    clusters: Clusters, provider: Rig, server: CannedApi
) -> None:
    state = provider.create(clusters.inputs)

    assert state.id == "shared/cluster"
    assert provider.diff(provider.read(state), clusters.inputs) == {}
    written = json.dumps([state.inputs, state.outputs])
    assert TOKEN not in written and server.url not in written


def test_an_edit_is_found_and_needs_a_person(clusters: Clusters, provider: Rig, server: CannedApi) -> None:
    state = provider.create(clusters.inputs)
    server.answers[NODES] = items("Node", node("gpu-21", rack="z9"))
    provider.forget()
    found = provider.read(state)

    assert [*provider.diff(found, clusters.inputs)] == ['claims["node:gpu-21"].labels']
    left = provider.update(found, clusters.inputs)  # only reads: the server knows no other requests
    assert [*provider.diff(left, clusters.inputs)] == ['claims["node:gpu-21"].labels']


def test_without_an_answer_the_last_state_is_kept(clusters: Clusters, provider: Rig, server: CannedApi) -> None:
    state = provider.create(clusters.inputs)
    server.answers["/version"] = refusal(401, "Unauthorized")
    provider.forget()
    found = provider.read(state)

    assert found.outputs["claims"] == state.outputs["claims"]
    assert found.outputs["unreachable"] == "the API refuses the token: 401 Unauthorized"


def test_a_cluster_that_the_fleet_declares_no_more_needs_no_answer(
    clusters: Clusters, provider: Rig, server: CannedApi
) -> None:
    """
    It is gone, or its token is: neither may keep its entry in the state.
    """
    state = provider.create(clusters.inputs)
    provider.forget()
    server.questions.clear()
    clusters.is_declared = False

    assert "unreachable" not in provider.read(state).outputs
    provider.delete(state)
    assert server.questions == []


def test_the_plan_of_its_removal_needs_no_answer(clusters: Clusters) -> None:
    """
    `destroy` is not refused, and says that nothing else changes.
    """
    urn = f"urn:pulumi:prod::rackwright::{ClusterKind.token}::shared/cluster"
    resource = {"type": ClusterKind.token, "urn": urn, "inputs": clusters.inputs}
    removal = plan_removal(clusters.stack, resource, {})

    assert (removal.name, removal.outcome) == ("shared/cluster", "stays")
