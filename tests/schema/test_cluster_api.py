"""The declaration of a cluster of others by its URL: what is refused, and in which words."""

import json
from types import SimpleNamespace

import pytest
import yaml

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from rackwright.fleet.roles import accept_all_secrets
from rackwright.schema.fleet import Fleet
from rackwright.schema.pods import Pods
from rackwright.schema.pods import problems as pod_problems
from rackwright.schema.problem import Problem
from rackwright.schema.secret import Form, length_problem
from tests.support.recorded_hosts import HERE, STACK

FLEET = yaml.safe_load((HERE / "shared.yaml").read_text())
CLUSTER, URL = FLEET["clusters"]["shared"], "https://shared.example:6443"
HOST = {"address": "192.0.2.1", "identity": {"serial": "S1"}, "os": "debian-12"}
STORE = {"url": "https://s.example", "credentials": {"access_key": "a", "secret_key": {"secret": "k"}}}


def load(tmp_path, change=None, of_fleet=None, check_secret=accept_all_secrets) -> Fleet:
    """Load the fleet with *change* of its cluster and *of_fleet* of all else; None removes a key."""
    cluster = {key: value for key, value in {**CLUSTER, **(change or {})}.items() if value is not None}
    path = tmp_path / "fleet.yaml"
    path.write_text(json.dumps({**FLEET, "clusters": {"shared": cluster}, **(of_fleet or {})}))
    return load_fleet(path, STACK.repository.roles, check_secret)


def errors(tmp_path, *arguments, **more) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        load(tmp_path, *arguments, **more)
    return [f"{each.where.partition(': ')[2]}: {each.problem}; {each.expected}" for each in caught.value.diagnostics]


def test_nodes_of_a_cluster_with_an_api_are_no_hosts_of_the_fleet(tmp_path):
    """
    Their names may have dots, and taints may be those that distributions give control planes.
    """
    cluster = load(tmp_path).clusters["shared"]

    assert cluster.members == ("cp-1.shared.example", "gpu-21", "gpu-22")
    assert cluster.nodes["cp-1.shared.example"].taints[0].text == "node-role.kubernetes.io/control-plane:NoSchedule"
    assert cluster.control_planes == ()


@pytest.mark.parametrize("version", ["1.31.4+rke2r1", "1.31.4-eks-2d5f260", "1.30.7"])
def test_versions_of_distributions_are_accepted(tmp_path, version):
    """
    A node may have another version than the API.
    """
    nodes = {"gpu-21": {"version": version}}

    assert load(tmp_path, {"version": version, "nodes": nodes}).clusters["shared"].nodes["gpu-21"].version == version


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://shared.example:6443", "got 'http://shared.example:6443'; an address that begins with https://"),
        ("http://127.0.0.1:8080", "got 'http://127.0.0.1:8080'; an address that begins with https://"),
        ("shared.example", "got 'shared.example'; an address that begins with http:// or https://"),
        ("https://anna:word@shared.example", "got an address with more than a server and a path; "),
        (f"{URL}?token=word", "got an address with more than a server and a path; "),
    ],
    ids=["plain HTTP", "plain HTTP on loopback", "no scheme", "an account", "a query"],
)
def test_the_address_is_https_and_nothing_more(tmp_path, url, error):
    """
    An address with a password is not quoted.
    """
    [found] = errors(tmp_path, {"api": {**CLUSTER["api"], "url": url}})

    assert found.startswith(f"clusters.shared.api.url: {error}")
    assert "word" not in found


def test_a_path_belongs_to_the_address(tmp_path):
    """
    A proxy in front of several clusters tells them apart so.
    """
    api = {**CLUSTER["api"], "url": "https://rancher.example/k8s/clusters/c-1/"}

    assert load(tmp_path, {"api": api}).clusters["shared"].api.url == "https://rancher.example/k8s/clusters/c-1"


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"token": "abcdefghijklmnop"}, "clusters.shared.api.token: "),
        ({"ca": "/etc/ca.crt"}, "clusters.shared.api.ca: got '/etc/ca.crt'; a certificate in PEM"),
    ],
    ids=["a token in clear", "a file instead of its content"],
)
def test_the_token_is_a_secret_and_the_authority_a_certificate(tmp_path, more, error):
    """
    The token itself is not quoted.
    """
    [found] = errors(tmp_path, {"api": {**CLUSTER["api"], **more}})

    assert found.startswith(error)
    assert "abcdefghijklmnop" not in found


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            {"control_plane": "cp-01"},
            "clusters.shared.api: got api and a control plane; one of both: api is for clusters whose control plane is "
            "no host of the fleet",
        ),
        (
            {"provided": False, "version": None},
            "clusters.shared.api: got api without provided: true; rackwright makes clusters on hosts of the fleet, and "
            "only compares those with api",
        ),
        (
            {"api": None, "nodes": {}},
            "clusters.shared: got no control_plane and no api; a host with the control plane, or the API of a cluster "
            "that others made",
        ),
        (
            {"nodes": {"GPU-21": {}}},
            "clusters.shared.nodes.GPU-21: got 'GPU-21'; the name of a node has small letters, digits and - . between "
            "them, 253 at most",
        ),
        (
            {"queue": True},
            "clusters.shared.queue: got queue for a provided cluster; a cluster that rackwright makes: others install "
            "Kueue in a provided one",
        ),
    ],
    ids=["both", "not provided", "neither", "no name of a node", "a queue"],
)
def test_wrong_clusters_are_refused(tmp_path, change, error):
    """
    The message says what is expected.
    """
    assert error in errors(tmp_path, change, {"hosts": {"cp-01": HOST}})


def test_a_version_of_a_node_needs_a_provided_cluster(tmp_path):
    """
    Other nodes have the version of their role.
    """
    path = tmp_path / "fleet.yaml"
    clustered = yaml.safe_load((HERE / "clustered.yaml").read_text())
    clustered["clusters"]["main"]["nodes"]["aspen"]["version"] = "1.37.1"
    path.write_text(yaml.safe_dump(clustered))
    with pytest.raises(DeclarationError, match="clusters.main.nodes.aspen.version: got 1.37.1"):
        load_fleet(path, STACK.repository.roles)


@pytest.mark.parametrize(
    "more",
    [{"hosts": {"shared": HOST}}, {"object_stores": {"shared": STORE}}],
    ids=["a host", "an object store"],
)
def test_the_name_of_the_cluster_is_that_of_nothing_else(tmp_path, more):
    """
    The resource shared/cluster would be one of the host, or of the store.
    """
    assert errors(tmp_path, of_fleet=more) == [
        "clusters.shared: got the cluster shared; a cluster with api has another name than each host and each object "
        "store"
    ]


def test_two_clusters_of_others_may_have_nodes_of_one_name(tmp_path):
    """
    A host of the fleet is in one cluster all the same.
    """
    two = {"shared": CLUSTER, "second": CLUSTER}

    assert load(tmp_path, of_fleet={"clusters": two}).clusters.keys() == two.keys()
    assert errors(tmp_path, of_fleet={"clusters": two, "hosts": {"gpu-21": HOST}}) == [
        "clusters.second.nodes.gpu-21: got gpu-21; a host is in one cluster"
    ]


@pytest.mark.parametrize("name", ["fleet.yaml", "fleet.py"])
def test_the_token_has_a_value_of_some_length(tmp_path, name):
    """
    A fleet in Python is checked in the same way.
    """
    asked = []

    def check_secret(secret: str, shortest: int, form: Form | None = None) -> Problem | None:
        asked.append(secret)
        return length_problem("rack", secret, 9, shortest)

    if name == "fleet.py":
        path = tmp_path / name
        path.write_text(f"from rackwright.schema.fleet import Fleet\n\ndef fleet():\n    return Fleet(**{FLEET!r})\n")
        with pytest.raises(DeclarationError, match="the secret shared_token has 9 bytes"):
            load_fleet(path, STACK.repository.roles, check_secret)
    else:
        [found] = errors(tmp_path, check_secret=check_secret)
        assert found == "clusters.shared.api.token: the secret shared_token has 9 bytes; 16 characters or more"
    assert asked == ["shared_token"]


def test_runs_are_not_carried_by_a_cluster_of_others(tmp_path):
    """
    rackwright starts pods on a host with the control plane, and here is none.
    """
    clusters = load(tmp_path, {"teams": {"vision": {"cpus": 8, "memory": "8GiB"}}}).clusters
    workload = SimpleNamespace(on="kubernetes", pods=Pods(team="vision"))

    [problem] = pod_problems(workload, ("gpu-21", "gpu-22"), clusters)
    assert (problem.path, problem.diagnostic.problem) == (("on",), "got shared, a cluster with api")
