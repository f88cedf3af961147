"""`check` names members of load balancers that are no server of the project."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from rackwright.stack import Stack, load_stack
from rackwright.stack.missing_members import missing_members
from tests.support.log import ROOT


def with_members(*members: str, stack: Stack | None = None) -> Stack:
    """Return the hospital, whose service host distributes requests to *members*."""
    stack = stack or load_stack("hospital", ROOT)
    host = stack.fleet.hosts["service-01"]
    roles = {**host.roles, "load_balancer": {"services": {"r1": {"port": 8088, "members": list(members)}}}}
    hosts = {**stack.fleet.hosts, "service-01": host.model_copy(update={"roles": roles})}
    return dataclasses.replace(stack, fleet=stack.fleet.model_copy(update={"hosts": hosts}))


def test_the_members_of_the_hospital_are_servers() -> None:
    assert [*missing_members(load_stack("hospital", ROOT))] == []


def test_a_fleet_without_a_balancer_has_no_notices() -> None:
    assert [*missing_members(load_stack("factory", ROOT))] == []


@pytest.mark.parametrize(
    ("member", "notice"),
    [
        (
            "10.61.0.11:8081",
            "no server of hospital-models listens there on gpu-01. Correct the port, or declare the server",
        ),
        (
            "10.61.0.99:8080",
            "no host of this fleet has this address of 10.61.0.0/24. Correct it, if it is none of others",
        ),
        ("203.0.113.7:8080", None),
    ],
)
def test_a_member_that_is_no_server_is_named(member: str, notice: str | None) -> None:
    found = [*missing_members(with_members("10.61.0.11:8080", member))]

    assert found == ([] if notice is None else [f"service-01: load_balancer.services.r1: {member}: {notice}"])


def test_ports_are_not_judged_without_a_stack_of_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "stacks", tmp_path / "stacks", ignore=shutil.ignore_patterns("*hospital-models*"))
    monkeypatch.chdir(tmp_path)

    assert [*missing_members(with_members("10.61.0.11:8081", stack=load_stack("hospital", tmp_path)))] == []
