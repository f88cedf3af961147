"""What all roles have in common: that their files agree with each other, and their order with the playbooks'."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.kinds.house import ACCEPTED, UNVERIFIED, House, RoleSource, load_roles
from rackwright.kinds.role.entries import AbsentFile, File, KernelParameter
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec

ROOT = Path(__file__).parents[1]
ROLES = load_roles(ROOT)
HOUSE = House.load(ROOT, b"salt")
PLACES = [(role, system) for role, source in ROLES.items() for system in source.by_os]


@pytest.fixture(params=ROLES.values(), ids=ROLES)
def source(request: pytest.FixtureRequest) -> RoleSource:
    return request.param  # type: ignore[no-any-return]


def test_every_folder_is_a_role() -> None:
    assert set(ROLES) == {path.name for path in (ROOT / "roles").iterdir()}


def test_each_variable_is_specified_and_described_and_named_after_its_role(source: RoleSource) -> None:
    readme = (ROOT / "roles" / source.name / "README.md").read_text()
    described = re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)

    assert all(name.startswith(f"{source.name}_") for name in source.options)
    assert set(source.defaults) <= set(source.options)
    assert described == [name.removeprefix(f"{source.name}_") for name in source.options]


def test_its_own_defaults_are_sound(source: RoleSource) -> None:
    given = {name.removeprefix(f"{source.name}_"): value for name, value in source.defaults.items()}
    if source.unverified:
        given[UNVERIFIED] = ACCEPTED

    for system in source.by_os:
        assert list(source.problems(system, given)) == []


def test_a_role_that_was_never_tried_on_its_hardware_is_off_until_a_fleet_accepts_that(source: RoleSource) -> None:
    """
    Such a role says what was not tried, in its README as well, and takes the one word for all of them.
    """
    readme = (ROOT / "roles" / source.name / "README.md").read_text()
    word = f"{source.name}_{UNVERIFIED}"

    assert bool(source.unverified) == (word in source.options) == ("**Not verified on hardware**" in readme)
    for system in source.by_os if source.unverified else ():
        assert source.options[word]["choices"] == [ACCEPTED]
        for given in ({}, {UNVERIFIED: "yes"}, {UNVERIFIED: True}):
            [problem] = source.problems(system, given)
            assert f"role {source.name} is not verified on hardware: {source.unverified}" in str(problem)
            assert "Write `unverified: accepted` to have it all the same" in str(problem)


@pytest.mark.parametrize(("role", "system"), PLACES)
def test_its_promises_can_be_told_for_each_system(role: str, system: str) -> None:
    """
    With defaults alone; every file is an absolute path and nothing is promised twice.
    """
    spec = RoleSpec(
        host="alpha",
        role=role,
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os=system, profile="virtual"),
        fleet=AboutFleet(name="lab"),
    )
    told = promises(spec, HOUSE)

    things = [(entry.thing, name) for entry in told.entries for name in entry.want(HOUSE)]
    assert len(things) == len(set(things))
    assert all(entry.file.startswith("/") for entry in told.entries if isinstance(entry, File))


def tasks(source: RoleSource) -> Iterator[dict[str, Any]]:
    for path in sorted((ROOT / "roles" / source.name / "tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text()):
            yield from (task, *task.get("block", ()), *task.get("rescue", ()))


def test_ansible_says_nothing_of_a_file_that_is_secret(source: RoleSource) -> None:
    writing = [task for task in tasks(source) if f"{source.name}_files" in str(task.get("loop"))]

    assert writing
    assert all(task["no_log"] == "{{ item.secret }}" for task in writing)


def base(**variables: object) -> dict[str, object]:
    """Return what role base promises beyond its defaults, by thing."""
    about = AboutHost(name="alpha", os="debian-12", profile="virtual")
    fleet = AboutFleet(name="lab")
    spec = RoleSpec(host="alpha", role="base", identity={}, about=about, fleet=fleet, variables=variables)
    return {entry.thing: entry for entry in promises(spec, HOUSE).entries}


def test_parameters_of_the_kernel_are_given_to_grub_and_take_a_restart() -> None:
    path = "/etc/default/grub.d/60-rackwright.cfg"
    told = base(kernel_parameters=["iommu=pt", "pci=realloc"])
    file = told[f"file:{path}"]

    assert isinstance(file, File)
    assert file.content.splitlines()[1:] == ['GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX iommu=pt pci=realloc"']
    for word in ("iommu=pt", "pci=realloc"):
        entry = told[f"kernel_parameter:{word}"]
        assert isinstance(entry, KernelParameter) and entry.restart
    assert isinstance(base()[f"file:{path}"], AbsentFile), "what is asked for no more is taken back"


@pytest.mark.parametrize("word", ["", "a b", 'a="b"', "$(reboot)", "a`b`", "a\\b", "a\nb", "'"])
def test_no_parameter_of_the_kernel_is_more_than_a_word(word: str) -> None:
    [problem] = refusals(ROLES["base"], "debian-12", {"kernel_parameters": ["iommu=pt", word]})

    assert "a parameter of the kernel is one word without quotes" in str(problem)


def test_each_template_is_one_that_a_role_or_a_kind_writes() -> None:
    folders = {path.split("/")[0] for path in HOUSE.templates}
    shared = {"python"}

    assert folders <= {*ROLES, *shared, "tier", "network", "peers", "training_run", "model_server"}


def test_the_site_plays_every_role_after_those_it_comes_after() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    order = [play["ansible.builtin.import_playbook"].removesuffix(".yml") for play in plays]

    assert sorted(order) == sorted(ROLES)
    for role, source in ROLES.items():
        for other in source.after:
            assert other.startswith("tier:") or order.index(other) < order.index(role)


@pytest.mark.parametrize("role", ROLES)
def test_a_playbook_plays_the_role_of_its_name(role: str) -> None:
    [play] = yaml.safe_load((ROOT / "playbooks" / f"{role}.yml").read_text())

    assert [entry["role"] for entry in play["roles"]] == [role]
    assert play["hosts"] == f"{{{{ targets | default('{role}') }}}}"
