"""Groups in groups: the settings that a host inherits, and the places of errors in them."""

from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from tests.support.our_roles import ROLES

FLEET = """\
fleet: nested
groups:
  all:
    os: debian-12
    profile: virtual
    ssh: {logins: [{name: admin, user: root, agent: true}]}
    roles: {base: {timezone: Europe/Zurich, packages: [vim]}}
  h100: {group: all, roles: {base: {packages: [htop]}}}
  first-rack: {group: h100, roles: {base: {timezone: Europe/Paris}}}
hosts:
  a: {group: first-rack, address: 192.0.2.1, identity: {serial: A}, drives: [{serial: A1, boot: true}]}
  b: {group: h100, address: 192.0.2.2, identity: {serial: B}, drives: [{serial: B1, boot: true}]}
  c: {group: all, address: 192.0.2.3, identity: {serial: C}, drives: [{serial: C1, boot: true}]}
"""


def load(folder: Path, text: str):  # type: ignore[no-untyped-def]
    path = folder / "nested.yaml"
    path.write_text(text)
    return load_fleet(path, ROLES)


def test_a_host_inherits_from_all_groups_the_nearest_last(tmp_path: Path) -> None:
    hosts = load(tmp_path, FLEET).hosts

    assert [hosts[name].roles["base"] for name in "abc"] == [
        {"timezone": "Europe/Paris", "packages": ["htop"]},
        {"timezone": "Europe/Zurich", "packages": ["htop"]},
        {"timezone": "Europe/Zurich", "packages": ["vim"]},
    ]
    assert [hosts[name].group for name in "abc"] == ["first-rack", "h100", "all"]


def test_an_inherited_error_has_the_place_of_its_group(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as wrong:
        load(tmp_path, FLEET.replace("os: debian-12", "os: debian-21"))

    assert {each.where.rpartition("/")[2].split(": ")[0] for each in wrong.value.diagnostics} == {"nested.yaml:4"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("{group: all,", "{group: h100,"), "a group is not in itself"),
        (("  all:\n", "  all:\n    group: first-rack\n"), "so all in first-rack in h100 in all"),
        (("{group: all,", "{group: al,"), "a declared group: all, h100, first-rack"),
    ],
)
def test_a_circle_and_an_unknown_group_are_refused(change: tuple[str, str], text: str, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as wrong:
        load(tmp_path, FLEET.replace(*change))

    assert text in str(wrong.value)
