"""The role cuda: which packages it takes, and where a login finds them."""

from typing import Any

import pytest

from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.roles.apt import only_with_apt, priorities
from tests.support.our_roles import REPOSITORY, ROLES

SOURCE = ROLES["cuda"]
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQINBF\n-----END PGP PUBLIC KEY BLOCK-----"
VENDOR = {"source": "vendor", "versions": ["12.8"], "repository": "https://mirror.example/cuda", "repository_key": KEY}


def role_entries(**variables: Any) -> dict[str, Any]:
    """Return every entry by its thing."""
    spec = RoleSpec(
        host="alpha",
        role="cuda",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables=variables,
    )
    return {entry.thing: entry for entry in promises(spec, REPOSITORY).entries}


def test_the_toolkit_is_held_pinned_and_where_a_login_looks():
    entries = role_entries()
    package = entries["package:nvidia-cuda-toolkit"]

    assert (package.version, package.held) == ("11.8.89~11.8.0-5~deb12u1", True)
    assert f"Package: {package.package}\nPin: version {package.version}\nPin-Priority: 1001\n" in (
        entries["file:/etc/apt/preferences.d/60-rackwright-cuda"].content
    )
    assert entries["file:/usr/local/cuda"].to == "/usr/lib/cuda"
    assert "/usr/local/cuda/bin" in entries["file:/etc/profile.d/rackwright-cuda.sh"].content


@only_with_apt
@pytest.mark.parametrize("variables", [{}, VENDOR])
def test_apt_takes_the_preferences(variables, tmp_path):
    text = role_entries(**variables)["file:/etc/apt/preferences.d/60-rackwright-cuda"].content

    assert priorities(text, tmp_path).startswith("\n")


def test_the_distributions_runtime_is_libraries_and_no_folder():
    things = {thing for thing in role_entries(parts="runtime") if not thing.startswith("file:/etc/apt")}

    assert things == {"package:libcublas11", "package:libcudart11.0"}


def test_the_vendors_packages_come_from_its_repository_with_the_key_that_was_declared():
    entries = role_entries(**VENDOR)
    sources = entries["file:/etc/apt/sources.list.d/rackwright-cuda.sources"].content.splitlines()

    assert "URIs: https://mirror.example/cuda/debian12/x86_64/" in sources
    assert "Signed-By: /etc/apt/keyrings/rackwright-cuda.asc" in sources
    assert entries["file:/etc/apt/keyrings/rackwright-cuda.asc"].content == f"{KEY}\n"
    assert entries["package:cuda-toolkit-12-8"].version == "12.8.0-1"
    assert entries["file:/usr/local/cuda"].to == "/usr/local/cuda-12.8"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"versions": ["12.8"]}, "got 12.8; known versions of the distribution: 11.8."),
        ({"versions": []}, "got none; a host with this role has at least one"),
        ({"default": "12.4"}, "got 12.4; the default is one of versions: 11.8"),
    ],
)
def test_what_cannot_be_is_refused(variables, expected):
    assert list(SOURCE.problems("debian-12", variables)) == []
    [problem] = refusals(SOURCE, "debian-12", variables)

    assert expected in str(problem)


@pytest.mark.parametrize("version", ["12.8", "13.0"])
def test_a_version_of_the_vendor_is_the_whole_declaration(version):
    variables = {"source": "vendor", "versions": [version]}

    assert [*SOURCE.problems("debian-12", variables), *refusals(SOURCE, "debian-12", variables)] == []
    assert role_entries(**variables)["file:/usr/local/cuda"].to == f"/usr/local/cuda-{version}"
