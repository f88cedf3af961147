"""What all roles have in common: that their files agree with each other, and their order with the playbooks'."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.core.repository import ACCEPTED, UNVERIFIED, Roles, RoleSource
from rackwright.kinds.role.entries.files import AbsentFile, FileEntry
from rackwright.kinds.role.entries.kernel import KernelParameter
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.our_roles import REPOSITORY, ROLES, ROOT
from tests.support.unit_files import ROOT_OWNED

PLACES = [(role, system) for role, source in ROLES.items() for system in source.by_os]


@pytest.fixture(params=ROLES.values(), ids=ROLES)
def source(request: pytest.FixtureRequest) -> RoleSource:
    return request.param  # type: ignore[no-any-return]


PARTS = {"pinned_packages"}
"""Roles that other roles include and no fleet plays by itself."""


def test_every_folder_is_a_role() -> None:
    assert set(ROLES) | PARTS == {path.name for path in (ROOT / "roles").iterdir()}
    assert PARTS.isdisjoint(ROLES)


def test_each_variable_is_specified_and_described_and_named_after_its_role(source: RoleSource) -> None:
    readme = (ROOT / "roles" / source.name / "README.md").read_text()
    described = re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)

    assert all(name.startswith(f"{source.name}_") for name in source.options)
    assert set(source.defaults) <= set(source.options)
    assert described == [name.removeprefix(f"{source.name}_") for name in source.options]


def test_its_own_defaults_are_sound(source: RoleSource) -> None:
    given = {name.removeprefix(f"{source.name}_"): value for name, value in source.defaults.items()}
    if source.unverified_reason:
        given[UNVERIFIED] = ACCEPTED

    for system in source.by_os:
        assert list(source.problems(system, given)) == []


def test_a_role_that_was_never_tried_on_its_hardware_is_off_until_a_fleet_accepts_that(source: RoleSource) -> None:
    """
    Such a role says what was not tried, in its README as well, and takes the one word for all of them.
    """
    readme = (ROOT / "roles" / source.name / "README.md").read_text()
    word = f"{source.name}_{UNVERIFIED}"

    assert bool(source.unverified_reason) == (word in source.options) == ("**Not verified on hardware**" in readme)
    for system in source.by_os if source.unverified_reason else ():
        assert source.options[word]["choices"] == [ACCEPTED]
        for given in ({}, {UNVERIFIED: "yes"}, {UNVERIFIED: True}):
            [problem] = source.problems(system, given)
            assert f"role {source.name} is not verified on hardware: {source.unverified_reason}" in str(problem)
            assert "Write `unverified: accepted` to use the role anyway" in str(problem)


@pytest.mark.parametrize(("role", "system"), PLACES)
def test_its_promises_can_be_computed_for_each_system(role: str, system: str) -> None:
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
    report = promises(spec, REPOSITORY)

    things = [(entry.thing, name) for entry in report.entries for name in entry.want(REPOSITORY)]
    assert len(things) == len(set(things))
    assert all(entry.file.startswith("/") for entry in report.entries if isinstance(entry, FileEntry))


def tasks(source: RoleSource) -> Iterator[dict[str, Any]]:
    for path in sorted((ROOT / "roles" / source.name / "tasks").glob("*.yml")):
        yield from tasks_of(path)


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    for task in yaml.safe_load(path.read_text()):
        yield from (task, *task.get("block", ()), *task.get("rescue", ()))


def test_each_role_writes_its_files_by_the_module_that_shows_no_content(source: RoleSource) -> None:
    """`tests/roles/test_write_files.py` tests the module."""
    writing = [task for task in tasks(source) if f"{source.name}_files" in str(task.get("write_files"))]

    assert writing or not (ROOT / "roles" / source.name / "templates").exists()
    assert not any(f"{source.name}_files" in str(task.get("loop")) for task in tasks(source))


def base(**variables: object) -> dict[str, object]:
    """Return what role base promises beyond its defaults, by thing."""
    about = AboutHost(name="alpha", os="debian-12", profile="virtual")
    fleet = AboutFleet(name="lab")
    spec = RoleSpec(host="alpha", role="base", identity={}, about=about, fleet=fleet, variables=variables)
    return {entry.thing: entry for entry in promises(spec, REPOSITORY).entries}


def test_parameters_of_the_kernel_are_given_to_grub_and_take_a_restart() -> None:
    path = "/etc/default/grub.d/60-rackwright.cfg"
    report = base(kernel_parameters=["iommu=pt", "pci=realloc"])
    file = report[f"file:{path}"]

    assert isinstance(file, FileEntry)
    assert file.content.splitlines()[1:] == ['GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX iommu=pt pci=realloc"']
    for word in ("iommu=pt", "pci=realloc"):
        entry = report[f"kernel_parameter:{word}"]
        assert isinstance(entry, KernelParameter) and entry.restart
    assert isinstance(base()[f"file:{path}"], AbsentFile), "what is asked for no more is taken back"


@pytest.mark.parametrize("word", ["", "a b", 'a="b"', "$(reboot)", "a`b`", "a\\b", "a\nb", "'"])
def test_no_parameter_of_the_kernel_is_more_than_a_word(word: str) -> None:
    [problem] = refusals(ROLES["base"], "debian-12", {"kernel_parameters": ["iommu=pt", word]})

    assert "a parameter of the kernel is one word without quotes" in str(problem)


def test_each_folder_of_shared_templates_belongs_to_kinds_or_to_several_roles() -> None:
    """
    The templates of a role stand in the role. A folder with its name would hide them.
    """
    folders = {path.name for path in (ROOT / "templates").iterdir()}

    kinds = {path.parent.name for path in (ROOT / "rackwright/kinds").glob("*/__init__.py")}

    assert folders - kinds == {"firewall", "python", "systemd"}
    assert folders.isdisjoint(ROLES)


def test_a_role_is_read_when_it_is_first_used(tmp_path: Path) -> None:
    for name, text in (("good", "claims: []"), ("broken", "claims: [")):
        (tmp_path / "roles" / name / "meta").mkdir(parents=True)
        (tmp_path / "roles" / name / "meta" / "claims.yml").write_text(text)

    roles = Roles(tmp_path)

    assert list(roles) == ["broken", "good"] and "unknown" not in roles
    assert roles["good"] is roles["good"]
    with pytest.raises(yaml.YAMLError):
        roles["broken"]


def test_every_template_of_the_checkout_is_loaded() -> None:
    """
    All tests over templates read the loaded ones, so a file that is not loaded escapes them.
    """
    files = [path for place in (ROOT / "templates", *ROOT.glob("roles/*/templates")) for path in place.rglob("*")]

    assert sorted(REPOSITORY.templates.values()) == sorted(path.read_text() for path in files if path.is_file())


def test_a_template_of_a_role_is_named_after_the_role_and_the_path_on_the_host() -> None:
    path = "etc/sysctl.d/60-rackwright.conf.j2"

    assert REPOSITORY.templates[f"base/{path}"] == (ROOT / "roles/base/templates" / path).read_text()


def test_each_template_of_a_role_is_one_that_the_role_writes(source: RoleSource) -> None:
    own = {name for name in REPOSITORY.templates if name.startswith(f"{source.name}/")}
    texts = [(ROOT / "roles" / source.name / "meta/claims.yml").read_text(), *REPOSITORY.templates.values()]

    def is_written(name: str) -> bool:
        path = name.removeprefix(source.name).removesuffix(".j2")
        return any(name in text for text in texts) or f"file: {path}" in texts[0]

    assert {name for name in own if not is_written(name)} == set()


def test_the_site_plays_every_role_after_those_it_comes_after() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    order = [role for play in plays for role in play["roles"]]

    assert sorted(order) == sorted(ROLES)
    for role, source in ROLES.items():
        for other in (*source.after, *source.follows):
            assert other.startswith("tier:") or order.index(other) < order.index(role)


def test_plain_ansible_plays_each_role_on_the_hosts_of_its_group_in_the_order_of_the_site(tmp_path: Path) -> None:
    """
    Run in the checkout, Ansible finds playbooks and roles without any option.
    """
    groups = {role: {"alpha", "beta"} if role == "base" else {"beta"} if role == "cuda" else set() for role in ROLES}
    inventory = {role: {"hosts": {host: {} for host in hosts}} for role, hosts in groups.items()}
    path = tmp_path / "inventory.json"
    path.write_text(json.dumps(inventory))

    site = ansible_playbook("-i", str(path), "playbooks/site.yml", "--list-hosts")
    one = ansible_playbook("-i", str(path), "playbooks/role.yml", "-e", "role=cuda", "--list-hosts", "--list-tasks")

    plays = re.findall(r"play #\d+ \((\w+)\).*?hosts \(\d+\):((?:\n {6}\w+$)*)", site, re.DOTALL | re.MULTILINE)
    order = [play["hosts"] for play in yaml.safe_load((ROOT / "playbooks/site.yml").read_text())]
    assert [(role, set(hosts.split())) for role, hosts in plays] == [(role, groups[role]) for role in order]
    assert re.findall(r"^ {6}(\w+)$", one, re.MULTILINE) == ["beta"]
    assert set(re.findall(r"^ {6}(\w+) : ", one, re.MULTILINE)) == {"cuda"}


def ansible_playbook(*arguments: str) -> str:
    """Return what ansible-playbook prints, run in the checkout."""
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    argv = [program, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


WRITING = {
    "file": ("path", "dest"),
    "copy": ("dest",),
    "template": ("dest",),
    "get_url": ("dest",),
    "uri": ("dest",),
    "unarchive": ("dest",),
    "lineinfile": ("path",),
    "blockinfile": ("path",),
    "replace": ("path",),
}
"""Ansible's modules that write a file or change its owner, with the variables that name it."""
READING_ONLY = {"set_fact", "import_tasks", "include_role", "assert", "debug", "fail", "stat", "slurp"}
WITHOUT_PATHS = {"apt", "user", "group", "systemd_service", "dpkg_selections", "reboot", "wait_for"}
TEXTS = {"command", "shell"}
ROLE_FILES = re.compile(r"\w+_(files|sources)\b")
"""Loops over files that a role declares: `test_each_file_of_a_role_is_in_a_directory_of_roots` looks at these."""
EVERY_TASK = [task for path in sorted(ROOT.glob("roles/*/tasks/*.yml")) for task in tasks_of(path)]
ACCOUNTS = re.compile(
    r"/var/lib/(mlflow|object_store|registry)|mlflow_artifacts|object_store_data|registry_data|/home/|~"
)
"""What names a directory of an account's in the text of a command."""


def written(task: dict[str, Any]) -> Iterator[str]:
    """Yield the paths that the module of *task* writes, one for each item of its loop; an expression as it stands."""
    for module, names in WRITING.items():
        arguments = task.get(f"ansible.builtin.{module}", {})
        for path in (str(arguments[name]) for name in names if name in arguments):
            loop = task.get("loop")
            if "item" not in path or loop is None:
                yield path
            elif isinstance(loop, list):
                yield from map(str, loop)
            elif not ROLE_FILES.search(loop):
                yield from re.findall(r"'(/[^']*)'", loop) or [path]


def follows(task: dict[str, Any]) -> bool:
    """Return whether the module of *task* follows a link in the place of what it writes: Ansible's default."""
    arguments = next(
        (task[f"ansible.builtin.{module}"] for module in WRITING if f"ansible.builtin.{module}" in task), {}
    )
    return arguments.get("follow", True) is not False


def test_root_follows_no_link_in_a_directory_that_an_account_may_write_to() -> None:
    """
    The account would become the owner of any directory of root's, or root would write any file.
    """
    bad = [
        (task["name"], path)
        for task in EVERY_TASK
        for path in written(task)
        if follows(task) and not ROOT_OWNED.match(f"{path}/")
    ]

    assert bad == []


def test_each_module_of_a_task_is_known_to_write_or_not() -> None:
    known = WRITING.keys() | READING_ONLY | WITHOUT_PATHS | TEXTS
    used = {
        name.removeprefix("ansible.builtin.") for task in EVERY_TASK for name in task if name.startswith("ansible.")
    }

    assert used <= known


def test_commands_of_roots_leave_directories_of_accounts_alone() -> None:
    texts = [(task["name"], str(task[name])) for task in EVERY_TASK for name in task if name.endswith(tuple(TEXTS))]

    assert [name for name, text in texts if ACCOUNTS.search(text) and "runuser -u " not in text] == []


def test_the_rule_sees_a_directory_below_one_of_an_account() -> None:
    loop = ["{{ mlflow_artifacts }}/mlflow", "{{ mlflow_artifacts }}/mlflow/artifacts"]
    task = {"ansible.builtin.file": {"path": "{{ item }}", "state": "directory"}, "loop": loop}

    assert [*written(task)] == loop
    assert follows(task)
    assert not any(ROOT_OWNED.match(f"{path}/") for path in loop)


@pytest.mark.parametrize(("role", "system"), PLACES)
def test_each_file_of_a_role_is_in_a_directory_of_roots(role: str, system: str) -> None:
    about = AboutHost(name="alpha", os=system, profile="virtual")
    spec = RoleSpec(host="alpha", role=role, identity={}, about=about, fleet=AboutFleet(name="lab"))

    files = [entry.file for entry in promises(spec, REPOSITORY).entries if isinstance(entry, FileEntry)]

    assert [path for path in files if not ROOT_OWNED.match(path)] == []


def test_no_account_is_locked_by_what_ansible_takes_for_no_password() -> None:
    """
    Its module compares passwords without their exclamation marks, so that a deleted one would stay deleted.
    """
    arguments = [task["ansible.builtin.user"] for task in EVERY_TASK if "ansible.builtin.user" in task]

    assert arguments
    assert [each["name"] for each in arguments if str(each.get("password", "*")).strip("!") == ""] == []
