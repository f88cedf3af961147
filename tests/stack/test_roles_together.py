"""All pairs of roles on one host: `check` accepts each pair that can stand together, and a page lists the others."""

import re
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import DeclarationError
from rackwright.stack import declare, load_stack
from tests.support import role_sets
from tests.support.our_roles import ROLES
from tests.support.role_sets import PAIRS, refused_pairs
from tests.support.stack_settings import configure, encrypted_secrets, new_project

REFUSED = 48
"""Number of refused pairs; a change of it is a decision."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    new_project(tmp_path, monkeypatch, {})
    configure(
        tmp_path, "together", "together.yaml", "twin:together", secrets=encrypted_secrets("store_tls", "registry_tls")
    )
    return tmp_path


def problems(project: Path, hosts: dict[str, Any]) -> list[str]:
    """Return the errors of a fleet with *hosts*."""
    role_sets.write_fleet(project / "stacks" / "together.yaml", hosts)
    try:
        declare(load_stack("together", project))
    except DeclarationError as error:
        return [str(each) for each in error.diagnostics]
    return []


def host_name(pair: tuple[str, ...]) -> str:
    return "--".join(pair).replace("_", "-")


def test_the_samples_have_every_role() -> None:
    assert role_sets.samples().keys() == ROLES.keys()


def test_each_pair_of_roles_stands_on_one_host_or_is_refused_with_a_reason(project: Path) -> None:
    refused = refused_pairs()
    assert len(refused) == REFUSED
    assert f"{REFUSED} of {len(PAIRS)} pairs" in role_sets.PAGE.read_text()
    assert refused.keys() <= {frozenset(pair) for pair in PAIRS}
    allowed = [pair for pair in PAIRS if frozenset(pair) not in refused]
    hosts = {host_name(pair): role_sets.host(number, pair) for number, pair in enumerate(allowed)}
    assert problems(project, hosts) == []


def test_each_refused_pair_is_refused(project: Path) -> None:
    pairs = {host_name(tuple(sorted(pair))): tuple(pair) for pair in refused_pairs()}
    hosts = {name: role_sets.host(number, pair) for number, (name, pair) in enumerate(pairs.items())}
    found = problems(project, hosts)
    assert [name for name in pairs if not any(f"hosts.{name}.roles." in each for each in found)] == []


LARGEST = ("access", "load_balancer", "mlflow", "node_exporter", "nvidia_driver", "object_store", "registry", "rdma",
           "virtual_address", "workloads", "cuda", "container_runtime", "kubernetes_control_plane",
           "device_plugin")  # fmt: skip


def test_all_roles_of_one_system_stand_on_one_host(project: Path) -> None:
    assert problems(project, {"a": role_sets.host(1, LARGEST)}) == []


KEY = role_sets.samples()["access"]["people"][0]["keys"][0]
COLLISIONS = {
    "port of two roles": (
        ("mlflow", "registry"),
        {"registry": {"port": 5000}},
        "roles.registry: got port 5000 (tcp), on which a/mlflow listens; each port of a host has one program."
        " Declare another port for a/registry or for a/mlflow",
    ),
    "port of a part of another role": (
        ("mlflow", "object_store"),
        {"mlflow": {"port": 19333}},
        "got port 19333 (tcp), on which a/",
    ),
    "port of kubelet": (("mlflow", "kubernetes_node"), {"mlflow": {"port": 10250}}, "got port 10250 (tcp)"),
    "port that another role wants closed": (
        ("load_balancer", "object_store"),
        {"load_balancer": {"services": {"digits": {"port": 8181, "members": ["10.145.0.12:8080"]}}}},
        "got port 8181 (tcp)",
    ),
    "kernel setting": (
        ("base", "kubernetes_node"),
        {"base": {"sysctls": {"net.ipv4.ip_forward": 0}}},
        "got sysctl net.ipv4.ip_forward with value 1, and a/base wants value 0; resources that share a sysctl want it"
        " alike. Declare it alike in both, or move a/kubernetes_node to another host",
    ),
    "account of a person": (
        ("access", "mlflow"),
        {"access": {"people": [{"name": "mlflow", "function": "operator", "keys": [KEY]}]}},
        "got user mlflow with",
    ),
    "package that another role wants absent": (
        ("base", "container_runtime"),
        {"base": {"packages": ["docker.io"]}},
        "got package docker.io with installed no, and a/base wants installed yes",
    ),
}


@pytest.mark.parametrize("name", COLLISIONS)
def test_a_collision_is_refused_at_the_role_with_the_way_out(name: str, project: Path) -> None:
    roles, changes, message = COLLISIONS[name]
    samples = role_sets.samples()
    variables = {role: {**samples[role], **more} for role, more in changes.items()}
    found = problems(project, {"a": role_sets.host(1, roles, variables)})
    assert any(message in each for each in found), found
    assert all(re.match(r"stacks/together\.yaml:[0-9]+: hosts\.a\.roles\.", each) for each in found), found


@pytest.mark.parametrize(
    ("roles", "base"),
    [
        (("base", "load_balancer"), {"packages": ["nginx"]}),
        (("base", "workloads"), {"packages": ["python3-venv", "make"]}),
        (("base", "mlflow"), {"held": ["python3-venv"]}),
        (("base", "kubernetes_node"), {"sysctls": {"net.ipv4.ip_forward": 1}}),
    ],
)
def test_what_base_and_a_role_want_alike_is_shared(roles: tuple[str, ...], base: dict[str, Any], project: Path) -> None:
    assert problems(project, {"a": role_sets.host(1, roles, {"base": base})}) == []
