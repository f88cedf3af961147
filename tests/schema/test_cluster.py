"""The declaration of clusters: what is refused, and in which words."""

import pytest
import yaml

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from tests.support.recorded_hosts import HERE, STACK

TEXT = (HERE / "clustered.yaml").read_text()
NODES = """\
    nodes:
      aspen: {labels: {rack: a1}}
      maple: {labels: {rack: a2}, taints: [{key: reserved, value: team-a}]}
"""


def errors_of(tmp_path, text: str) -> list[str]:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    with pytest.raises(DeclarationError) as caught:
        load_fleet(path, STACK.repository.roles)
    return [f"{each.where.partition(': ')[2]}: {each.problem}; {each.expected}" for each in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("nodes", "error"),
    [
        ("oak: {}", "clusters.main.nodes.oak: got 'oak'; hosts of the fleet: birch, aspen, maple"),
        (
            "aspen: {labels: {kubernetes.io/os: linux}}",
            "clusters.main.nodes.aspen.labels.kubernetes.io/os: got 'kubernetes.io/os'; names below kubernetes.io and "
            "k8s.io belong to Kubernetes itself",
        ),
        (
            "aspen: {labels: {rack: a b}}",
            "clusters.main.nodes.aspen.labels.rack: got 'a b'; it has letters, digits and . _ - between them, "
            "63 at most",
        ),
        (
            "aspen: {taints: [{key: own, effect: Never}]}",
            "clusters.main.nodes.aspen.taints[0].effect: got 'Never'; it is one of NoSchedule, PreferNoSchedule, "
            "NoExecute",
        ),
    ],
    ids=["no host", "a label of Kubernetes", "a value with a blank", "an unknown effect"],
)
def test_a_wrong_node_is_refused(tmp_path, nodes, error):
    """
    The message says what is expected.
    """
    assert errors_of(tmp_path, TEXT.replace(NODES, f"    nodes:\n      {nodes}\n")) == [error]


def test_a_host_without_the_role_is_refused(tmp_path):
    """
    The control plane needs two roles.
    """
    node = TEXT.replace("kubernetes_node: {address: 10.145.0.12, pod_network: 10.244.2.0/24}", "{}")
    plane = TEXT.replace("control_plane: birch", "control_plane: maple").replace("maple: {", "birch: {")

    assert errors_of(tmp_path, node) == [
        "clusters.main.nodes.aspen: got aspen, without the role kubernetes_node; it has kubernetes_node"
    ]
    assert errors_of(tmp_path, plane) == [
        "clusters.main.control_plane: got maple, without the role kubernetes_control_plane; "
        "it has kubernetes_control_plane"
    ]


def test_a_host_is_in_one_cluster(tmp_path):
    """
    The message names the other one.
    """
    second = "  other:\n    control_plane: birch\n"

    assert errors_of(tmp_path, TEXT + second) == ["clusters.other.control_plane: got birch; a host is in one cluster"]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ("    provided: true\n", "clusters.main.version: got none; a provided cluster has a version"),
        ("    version: 1.37.2\n", "clusters.main.version: got 1.37.2; a provided cluster has a version"),
    ],
    ids=["provided without a version", "a version beside that of the roles"],
)
def test_only_a_provided_cluster_has_a_version(tmp_path, more, error):
    """
    Other clusters have that of their roles.
    """
    [found] = errors_of(tmp_path, TEXT.replace("    nodes:\n", f"{more}    nodes:\n"))
    assert found.startswith(error)


def test_hosts_of_a_provided_cluster_need_no_roles(tmp_path):
    """
    Somebody else made them nodes.
    """
    path = tmp_path / "fleet.yaml"
    fleet = yaml.safe_load(TEXT)
    for host in fleet["hosts"].values():
        del host["roles"]
    fleet["clusters"]["main"].update(provided=True, version="1.36.4")
    path.write_text(yaml.safe_dump(fleet))
    assert load_fleet(path, STACK.repository.roles).clusters["main"].provided


def test_two_teams_have_two_slices(tmp_path):
    """
    A slice says whose pod has an address.
    """
    teams = "    teams:\n" + "".join(f"      {name}: {{cpus: 1, memory: 1GiB, slice: 3}}\n" for name in ("one", "two"))
    assert errors_of(tmp_path, TEXT + teams) == [
        "clusters.main.teams.two.slice: got 3; each team has a slice of its own"
    ]


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (
            "teams: {vision: {cpus: 1, memory: 1GiB, borrows: {cpus: 1}}}",
            "clusters.main.teams.vision.borrows: got borrows without a queue; teams borrow from each other by the queue"
            " of their cluster",
        ),
        (
            "queue: true\n    provided: true\n    version: 1.37.2",
            "clusters.main.queue: got queue for a provided cluster; a cluster that rackwright makes: others install"
            " Kueue in a provided one",
        ),
    ],
    ids=["borrowing without a queue", "a provided cluster"],
)
def test_a_wrong_queue_is_refused(tmp_path, keys, error):
    """
    With `queue: true` the same team is right.
    """
    assert errors_of(tmp_path, TEXT + f"    {keys}\n") == [error]
    if "borrows" in keys:
        path = tmp_path / "right.yaml"
        path.write_text(TEXT + f"    {keys}\n    queue: true\n")
        fleet = load_fleet(path, STACK.repository.roles)
        assert fleet.clusters["main"].teams["vision"].borrows.cpus == 1


def with_teams(**pods: int) -> str:
    teams = "".join(f"      {name}: {{cpus: 8, memory: 64GiB, pods: {number}}}\n" for name, number in pods.items())
    return f"{TEXT}    teams:\n{teams}"


@pytest.mark.parametrize(
    ("pods", "error"),
    [
        ({f"t{number:02}": 100 for number in range(40)}, "t19: got 20 teams that could fill 4.5 GiB of etcd"),
        ({"a": 100, "b": 100_000}, "b: got 2 teams that could fill 22.6 GiB of etcd together, with 100100 pods"),
        ({"a": 50_000}, "a: got 1 team that could fill"),
    ],
    ids=["many teams", "many pods", "one team"],
)
def test_teams_that_could_fill_etcd_together_are_refused(tmp_path, pods, error):
    """The first team for which there is no room has the message."""
    [found] = errors_of(tmp_path, with_teams(**pods))
    assert found.startswith(f"clusters.main.teams.{error}")
    assert found.endswith("objects of all teams take 4.3 GiB of etcd's 8.0 GiB at most")


def test_as_many_teams_as_etcd_has_room_for_are_declared(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(with_teams(**{f"t{number:02}": 100 for number in range(13)}))
    load_fleet(path, STACK.repository.roles)


@pytest.mark.parametrize("slice", [", slice: 1", ""])
def test_pods_beside_a_control_plane_are_of_teams_with_a_slice(tmp_path, slice):
    team = f"    teams: {{vision: {{cpus: 8, memory: 8GiB{slice}}}}}\n"
    text = TEXT.replace("    nodes:\n", f"{team}    nodes:\n      birch: {{}}\n")
    if slice:
        (tmp_path / "fleet.yaml").write_text(text)
        fleet = load_fleet(tmp_path / "fleet.yaml", STACK.repository.roles)
        assert fleet.clusters["main"].planes_with_pods == ("birch",)
        return
    [error] = errors_of(tmp_path, text)
    assert error.startswith(
        "clusters.main.teams.vision: got no slice, and birch runs pods beside the control plane; hosts keep pods of a"
    )
