"""The kernel is asked which route it takes, in a network namespace with rules that lead elsewhere."""

import os

import pytest

from tests.support.chosen_routes import DIVERTED, RIGHT, SILENT, chosen

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def test_without_rules_the_kernel_takes_the_main_table() -> None:
    assert chosen("") == RIGHT


@pytest.mark.parametrize("name", DIVERTED)
def test_a_rule_that_leads_elsewhere_shows(name: str) -> None:
    change, destination, answer = DIVERTED[name]

    assert answer in chosen(change)[destination]


@pytest.mark.parametrize("name", SILENT)
def test_a_rule_that_changes_nothing_does_not_show(name: str) -> None:
    assert chosen(SILENT[name]) == RIGHT


@pytest.mark.parametrize("pods", [58, 250])
def test_a_node_with_a_route_for_each_pod_is_asked_about_all(pods: int) -> None:
    """The links of all pods have one and the same address of the node, as role kubernetes_node makes them."""
    make = f"""
    for pod in $(seq 2 {pods + 1}); do
      echo "link add pod$pod type veth peer name in$pod"
      echo "link set in$pod up"; echo "link set pod$pod up"; echo "address add 10.244.1.1/32 dev pod$pod"
      echo "route add 10.244.1.$pod/32 dev pod$pod scope host"
    done | ip -batch -
    ip rule add to 10.244.1.7 lookup 100
    """
    of_pods = [f"10.244.1.{number}/32" for number in range(2, pods + 2)]
    found = chosen(make, [*RIGHT, *of_pods])

    assert {name: found.pop(name) for name in RIGHT} == RIGHT
    assert found.pop("10.244.1.7/32") == {"via 10.42.0.9 on fabric1"}
    assert found == {name: {f"via none on pod{name[9:-3]}"} for name in of_pods if name in found}
    assert len(found) == pods - 1
