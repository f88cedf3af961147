"""Networks of pods and services that cannot be routed are refused, with the place in the cluster."""

import pytest

from rackwright.errors import DeclarationError
from rackwright.fleet.load import load_fleet
from tests.support.log import ROOT
from tests.support.recorded_hosts import STACK

FLEET = (ROOT / "stacks/cluster.yaml").read_text()
NODE, PLANE = "pod_network: 10.244.2.0/24", "pod_network: 10.244.0.0/16"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            NODE,
            "pod_network: 10.244.3.0/24",
            "got the pods of node-02 in 10.244.3.0/24; a network beside 10.244.3.0/24",
        ),
        (
            NODE,
            "pod_network: 10.244.2.0/23",
            "got the pods of node-02 in 10.244.3.0/24; a network beside 10.244.2.0/23",
        ),
        (NODE, "pod_network: 10.245.2.0/24", "got the pods of node-01 in 10.245.2.0/24; a part of 10.244.0.0/16"),
        (PLANE, "pod_network: 10.0.0.0/8", "got pods of the cluster in 10.0.0.0/8; a network outside 10.41.0.0/24"),
        (PLANE, "pod_network: 10.96.0.0/16", "got pods in 10.96.0.0/16 and services in 10.96.0.0/12; two networks"),
        (
            PLANE,
            f"{PLANE}\n        service_network: 10.41.0.0/20",
            "got services of the cluster in 10.41.0.0/20; a network outside 10.41.0.0/24, in which",
        ),
    ],
)
def test_networks_that_meet_others_are_refused(tmp_path, old, new, problem):
    place = tmp_path / "cluster.yaml"
    assert FLEET.count(old) == 1
    place.write_text(FLEET.replace(old, new))

    with pytest.raises(DeclarationError) as refused:
        load_fleet(place, STACK.repository.roles)
    assert any(f"{each.problem}; {each.expected}".startswith(problem) for each in refused.value.diagnostics)


def test_the_networks_of_the_example_are_right(tmp_path):
    place = tmp_path / "cluster.yaml"
    place.write_text(FLEET)

    assert load_fleet(place, STACK.repository.roles).clusters
