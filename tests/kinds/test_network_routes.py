"""Routes to pods on a host with the real systemd-networkd: what brings them back, and what the audit says."""

from pathlib import Path

import pytest

from tests.support.networkd_host import BY_HAND, BY_ITSELF, BY_UP, WAYS, networkd_host, node_network


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory):
    directory: Path = tmp_path_factory.mktemp("networkd")
    with networkd_host(directory, node_network()) as made:
        yield made


@pytest.fixture
def converged(host):
    host.write()
    host.apply()
    assert host.eventually(lambda: host.routes() == WAYS), host.routes()
    assert host.differences() == []
    return host


@pytest.mark.parametrize("change", BY_ITSELF)
def test_routes_are_there_again_after_a_change_of_the_link(converged, change: str) -> None:
    converged.change(BY_ITSELF[change], 1)
    assert converged.eventually(lambda: WAYS.items() <= converged.routes().items()), converged.routes()
    assert converged.differences() == []


@pytest.mark.parametrize("change", BY_UP)
def test_a_change_of_routes_is_seen_and_put_right(converged, change: str) -> None:
    converged.change(BY_UP[change], 1)
    assert converged.differences() != []
    converged.apply()
    assert converged.eventually(lambda: converged.routes() == WAYS), converged.routes()
    assert converged.differences() == []


@pytest.mark.parametrize("change", BY_HAND)
def test_a_route_that_others_added_is_seen(converged, change: str) -> None:
    converged.change(BY_HAND[change], 1)
    assert {item.name for item in converged.differences()} == {"preferred"}
    converged.run("ip route delete 10.244.3.0/24 via 10.145.0.99")


def test_routes_are_there_after_a_start_of_the_host(tmp_path: Path) -> None:
    with networkd_host(tmp_path, node_network(), boot=True) as host:
        assert host.eventually(lambda: host.routes() == WAYS), host.routes()
        assert host.differences() == []
