"""Isolated teams on two nodes: real rules in a real kernel, and the network of pods by the plugins that make it."""

from pathlib import Path

import pytest

from tests.support.pod_network import PLUGINS, check, pod_network

pytestmark = pytest.mark.skipif(not (PLUGINS / "ptp").exists(), reason="containernetworking-plugins is not installed")


def test_a_pod_reaches_its_team_and_the_names_and_nothing_else_by_either_family(tmp_path: Path) -> None:
    """
    Pods, nodes and a stranger, by IPv4, by IPv6 of the link, in fragments, and with the addresses of others.
    """
    with pod_network(tmp_path) as network:
        found = check(network)
    assert found.wrong == ()
    assert found.cases > 2000


def test_a_pod_that_kept_the_bridge_of_an_earlier_version_has_no_ipv6_either(tmp_path: Path) -> None:
    with pod_network(tmp_path, plugin="bridge") as network:
        found = check(network)
    assert [text for text in found.wrong if "fe80" in text] == []
