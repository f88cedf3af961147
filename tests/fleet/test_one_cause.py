"""One cause is one error: what only follows from it is not reported, and no text of a library reaches the user."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.errors import DeclarationError
from rackwright.fleet.load import load_fleet
from tests.support.our_roles import ROLES

GROUP = {
    "profile": "virtual",
    "os": "debian-12",
    "network": {"bonds": {"fabric": {"mode": "802.3ad", "members": ["p0", "p1"]}}},
    "tiers": {"hot": {"level": "raid1", "filesystem": "xfs", "mount": "/srv/hot"}},
    "roles": {"base": {}, "workloads": {}},
}


def host(number: int, group: str, **more: Any) -> dict[str, Any]:
    return {
        "group": group,
        "address": f"192.0.2.{number}",
        "identity": {"serial": f"S-{number}"},
        "drives": [{"serial": f"D{number}{each}", "bus": "nvme", "size": "1TB", "tier": "hot"} for each in "ab"],
        "nics": [{"name": f"p{each}", "mac": f"52:54:00:00:{number:02}:0{each}"} for each in (0, 1)],
        "network": {"bonds": {"fabric": {"addresses": [f"10.0.0.{number}/24"]}}},
        **more,
    }


def errors(tmp_path: Path, hosts: dict[str, Any], group: dict[str, Any] = GROUP, **more: Any) -> list[str]:
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump({"fleet": "f", "groups": {"rack": group}, "hosts": hosts, **more}, sort_keys=False))
    try:
        load_fleet(path, ROLES)
    except DeclarationError as error:
        return [
            f"{each.where.partition(': ')[2]}: {each.problem}; {each.expected}; {each.help}"
            for each in error.diagnostics
        ]
    return []


CLUSTER = {"clusters": {"main": {"control_plane": "one", "nodes": {"two": {}}}}}


@pytest.mark.parametrize(
    ("name", "help"), [("rak", "Write rack"), ("racks", "Write rack"), ("other", "Declare it under groups")]
)
def test_a_wrong_group_is_one_error_for_each_host(name: str, help: str, tmp_path: Path) -> None:
    hosts = {"one": host(1, name), "two": host(2, name)}
    assert errors(tmp_path, hosts) == [
        f"hosts.{each}.group: got '{name}'; a declared group: rack; {help}" for each in hosts
    ]


def test_hosts_without_their_group_are_in_no_cluster_yet(tmp_path: Path) -> None:
    assert [
        each.partition(":")[0] for each in errors(tmp_path, {"one": host(1, "x"), "two": host(2, "x")}, **CLUSTER)
    ] == [
        "hosts.one.group",
        "hosts.two.group",
    ]


def test_errors_that_do_not_follow_from_a_wrong_group_are_reported_beside_it(tmp_path: Path) -> None:
    for name in ("rak", "other"):
        found = errors(tmp_path, {"one": host(1, name, address="not an address"), "two": host(2, "rack")})
        assert [each.partition(":")[0] for each in found] == ["hosts.one.group", "hosts.one.address"]


@pytest.mark.parametrize("wrong", [{"level": "raid1x"}, {"mount": "srv"}, {"filesystem": "xfs4"}])
def test_what_uses_a_wrong_tier_is_not_wrong_itself(wrong: dict[str, str], tmp_path: Path) -> None:
    tiers = {"hot": {**GROUP["tiers"]["hot"], **wrong}, "cold": {"provided": True, "mount": "/srv/cold"}}
    group = {**GROUP, "tiers": tiers, "roles": {"base": {}, "mlflow": {"artifacts": {"tier": "hot"}}}}
    rule = {"directory": "runs", "keep": 1}
    placement = {"up": {"tier": "cold", "to": {"tier": "hot"}, **rule}, "down": {"tier": "hot", "to": {"tier": "cold"}}}
    found = errors(
        tmp_path, {"one": host(1, "rack")}, group, placement={**placement, "down": {**placement["down"], **rule}}
    )

    assert [each.partition(":")[0] for each in found] == [f"groups.rack.tiers.hot.{next(iter(wrong))}"]


A100 = {"profile": "training-a100", "os": "debian-12"}


def roles(**variables: Any) -> dict[str, Any]:
    return {
        "one": {
            "group": "rack",
            "address": "192.0.2.1",
            "identity": {"serial": "S"},
            "roles": {"base": {}, **variables},
        }
    }


@pytest.mark.parametrize("profile", ["training-a100", "training-h100", "virtual"])
@pytest.mark.parametrize("source", [{}, {"source": "vendor"}])
def test_a_driver_without_a_set_is_one_error_with_the_whole_way(
    profile: str, source: dict[str, str], tmp_path: Path
) -> None:
    found = errors(tmp_path, roles(nvidia_driver={"version": "595", **source}), {**A100, "profile": profile})
    [message] = found
    assert message.startswith("hosts.one.roles.nvidia_driver.version: got version 595, open, of the ")
    for part in ("`sets`", "Use one of these", *([] if source else ["`source: vendor`"])):
        assert part in message, message


@pytest.mark.parametrize("profile", ["training-a100", "training-h100", "virtual"])
def test_a_driver_that_the_vendor_alone_has_is_one_error_whose_help_is_the_whole_declaration(
    profile: str, tmp_path: Path
) -> None:
    [message] = errors(tmp_path, roles(nvidia_driver={"version": "580"}), {**A100, "profile": profile})
    assert message.endswith('Write `nvidia_driver: {source: vendor, version: "580"}`')
    whole = {"source": "vendor", "version": "580"}
    assert errors(tmp_path, roles(nvidia_driver=whole), {**A100, "profile": profile}) == []


def test_a_host_whose_workloads_need_a_newer_driver_gets_the_whole_declaration(tmp_path: Path) -> None:
    [message] = errors(tmp_path, roles(nvidia_driver={}, workloads={"environments": ["vllm"]}), A100)
    assert 'Write `nvidia_driver: {source: vendor, version: "580"}`' in message


def test_a_role_for_another_system_is_one_error(tmp_path: Path) -> None:
    for role in ("ascend", "gaudi", "jetson"):
        [message] = errors(tmp_path, roles(**{role: {"unverified": "accepted"}}), {"os": "debian-12"})
        assert message.startswith(f"hosts.one.roles.{role}: got ")


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
CONSTRAINED = {
    "mlflow": ({"key": {"secret": "k"}}, "mlflow.key: got key without certificate;"),
    "load_balancer": ({"certificate": CERTIFICATE}, "got certificate without key;"),
    "kubernetes_node": ({"repository": "https://mirror.example/"}, "got repository without repository_key;"),
    "rdma": ({"unverified": "accepted", "source": "doca"}, "got source doca without packages, repository and "),
    "access": ({"automation": {"user": "deploy", "principals": ["deploy"]}}, "got automation without ca_keys;"),
}  # fmt: skip


def test_each_role_with_constraints_has_a_case() -> None:
    assert CONSTRAINED.keys() == {name for name, source in ROLES.items() if source.constraints}


@pytest.mark.parametrize("role", CONSTRAINED)
def test_variables_that_belong_together_have_a_message_of_our_own(role: str, tmp_path: Path) -> None:
    variables, message = CONSTRAINED[role]
    needed = {name: {} for name in ROLES[role].after}
    found = errors(tmp_path, roles(**needed, **{role: variables}), {"os": "debian-12"})
    [own] = [each for each in found if message in each]
    assert "Declare " in own
    for text in ("Correct it", "parameter", "missing:", "all of the following"):
        assert text not in "".join(found)
