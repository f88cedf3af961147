"""The role dcgm: the programs of NVIDIA with which `host qualify` measures GPUs."""

import pytest

from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.kinds.role.vendor import with_vendor
from rackwright.qualify import tool
from rackwright.schema import Fleet
from rackwright.schema.twin import roles_of_vendors
from tests.roles.apt import only_with_apt, priorities
from tests.support.our_roles import REPOSITORY, ROLES

SOURCE = ROLES["dcgm"]
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----"
FINGERPRINT = "EB693B3035CD5710E231E123A4B469963BF863CC"


def role_promises(**variables):
    spec = RoleSpec(
        host="alpha",
        role="dcgm",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables=dict(with_vendor(SOURCE, "debian-12", variables, {FINGERPRINT: KEY})),
    )
    return promises(spec, REPOSITORY)


def entries(**variables):
    found = {}
    for entry in role_promises(**variables).entries:
        found.setdefault(entry.thing, {}).update(entry.want(REPOSITORY))
    return found


def text(path, **variables):
    return next(str(file.content) for file in role_promises(**variables).files if file.file == path)


@pytest.mark.parametrize("cuda", ["12", "13"])
def test_the_programs_are_held_in_one_version_and_their_service_runs(cuda):
    assert [*SOURCE.problems("debian-12", {"cuda": cuda}), *refusals(SOURCE, "debian-12", {"cuda": cuda})] == []
    want = entries(cuda=cuda)

    for name in ("datacenter-gpu-manager-4-core", f"datacenter-gpu-manager-4-cuda{cuda}"):
        assert want[f"package:{name}"] == {"version": "1:4.4.1-1", "held": True}
    assert want["unit:nvidia-dcgm.service"]["active"] == "active"


def test_the_packages_come_from_the_vendor_or_a_mirror_of_it():
    path = "/etc/apt/sources.list.d/rackwright-dcgm.sources"

    assert "URIs: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/\n" in text(path)
    assert "URIs: https://mirror.example/n/debian12/x86_64/\n" in text(path, repository="https://mirror.example/n")
    assert text("/etc/apt/keyrings/rackwright-dcgm.asc").strip() == KEY


@only_with_apt
def test_apt_takes_the_preferences(tmp_path):
    assert priorities(text("/etc/apt/preferences.d/60-rackwright-dcgm"), tmp_path).startswith("\n")


def test_a_twin_leaves_the_role_out_where_it_is_declared():
    host = {"address": "192.0.2.1", "identity": {"serial": "S"}, "os": "debian-12"}
    hosts = {"one": {**host, "roles": {"base": {}, "nvidia_driver": {}, "dcgm": {}}}, "two": {**host, "roles": {}}}
    hosts["two"]["identity"] = {"serial": "T"}
    fleet = Fleet.model_validate({"fleet": "lab", "hosts": hosts})

    assert [*roles_of_vendors(fleet.hosts["one"])] == ["dcgm"]
    assert [*roles_of_vendors(fleet.hosts["two"])] == []


def test_the_message_about_a_missing_program_names_the_role():
    assert tool.PROVIDERS["dcgmi"] == tool.PROVIDERS["nvbandwidth"] == "role dcgm installs it"
