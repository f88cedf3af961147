"""Packages that several roles need: they leave the host with the last of them, if roles brought them."""

import itertools
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.contract import Command, Put
from rackwright.facts.facts import Facts
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.entries.software import PackageEntry
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.shared_packages import _LEAVE, notes
from tests.support.our_roles import REPOSITORY, ROLES
from tests.support.role_spec import good
from tests.support.shipped_roles import facts, spec

KIND = RoleKind()
SHARING = ("mlflow", "object_store", "workloads")


@cache
def leaving(role: str) -> list[str]:
    entries = promises(spec(role), REPOSITORY).entries
    return [entry.package for entry in entries if isinstance(entry, PackageEntry) and entry.leaves]


def test_a_first_play_notes_which_packages_roles_brought() -> None:
    entries = promises(spec("workloads"), REPOSITORY).entries
    found = notes(entries, {}, facts({"make": "4.3", "libgomp1": "12"}))
    assert found["packages"] == ("g++", "libgomp1", "make", "patch", "python3-dev", "python3-venv")
    assert found["brought"] == ("g++", "patch", "python3-dev", "python3-venv")


def test_a_package_once_brought_stays_noted_and_an_unread_one_is_not_brought() -> None:
    entries = promises(spec("mlflow"), REPOSITORY).entries
    present = facts({"python3-venv": "3.11"})
    assert notes(entries, {"brought": ["python3-venv"]}, present)["brought"] == ("python3-venv",)
    assert notes(entries, {}, present)["brought"] == ()
    unread = Facts({**good(), "packages": {"unknown": "dpkg gave no answer"}})
    assert notes(entries, {}, unread)["brought"] == ()
    assert notes([entry for entry in entries if not isinstance(entry, PackageEntry)], {}, present) == {}


def test_the_steps_of_a_play_and_of_a_removal_carry_the_notes() -> None:
    missing = {**good(), "packages": {"bash": "5"}, "owners": {}, "files": {}}
    claims = KIND.claims(spec("load_balancer"), REPOSITORY)
    differences = [each for each in _differences(claims) if each.thing.startswith("file:")][:1]
    plan = KIND.plan(spec("load_balancer"), differences, Facts(missing), REPOSITORY)
    texts = [json.loads(step.content) for step in plan.steps if isinstance(step, Put)]
    assert [text["phase"] for text in texts] == ["creating", "ready"]
    assert all(text["packages"] == text["brought"] == ["nginx"] for text in texts)

    owner = {"id": "alpha/load_balancer", "fleet": "lab", **texts[-1]}
    removal = KIND.removal(
        spec("load_balancer"), facts({"nginx": "1.22"}, **{"role-load_balancer": owner}), REPOSITORY, True
    )
    put, *rest = removal.steps
    assert isinstance(put, Put) and json.loads(put.content)["brought"] == ["nginx"]
    [command] = [step for step in rest if isinstance(step, Command) and step.argv[:2] == ("python3", "-c")]
    assert command.text == "remove 1 package if no other role needs them"
    assert rest.index(command) == len(rest) - 2, "the owner file goes last, so that an interrupted removal goes on"


def test_a_role_that_brought_nothing_removes_nothing() -> None:
    owner = {"id": "alpha/mlflow", "fleet": "lab", "phase": "ready", "packages": ["python3-venv"], "brought": []}
    removal = KIND.removal(spec("mlflow"), facts({"python3-venv": "3"}, **{"role-mlflow": owner}), REPOSITORY, True)
    assert not [step for step in removal.steps if isinstance(step, Command) and step.argv[0] == "python3"]


def _differences(claims: Any) -> list[Any]:
    from rackwright.core.contract import Absent, Difference

    return [Difference(claim.thing, name, want, Absent()) for claim in claims for name, want in claim.want.items()]


APT = """#!/usr/bin/env python3
import json, pathlib, sys
state = pathlib.Path({state!r})
found = json.loads(state.read_text())  # packages, each with those that it needs
words = [word for word in sys.argv[1:] if not word.startswith("-") and "=" not in word]
assert words[0] == "remove" and "--no-auto-remove" in sys.argv, sys.argv
gone = set(words[1:])
while more := {{name for name, needs in found.items() if gone & set(needs)}} - gone:
    gone |= more
if "--simulate" in sys.argv:
    print(*(f"Remv {{name}} [1]" for name in sorted(gone & found.keys())), sep="\\n")
else:
    state.write_text(json.dumps({{name: needs for name, needs in found.items() if name not in gone}}))
"""
DPKG = """#!/usr/bin/env python3
import json, pathlib, sys
print("installed" if sys.argv[-1] in json.loads(pathlib.Path({state!r}).read_text()) else "", end="")
"""


class Host:
    """A host's owner files and packages, with stand-ins of apt-get and dpkg-query."""

    def __init__(self, root: Path) -> None:
        self.root, self.owners, self.state = root, root / "owners", root / "state.json"
        (root / "bin").mkdir()
        self.owners.mkdir()
        self.state.write_text("{}")
        for name, text in (("apt-get", APT), ("dpkg-query", DPKG)):
            (root / "bin" / name).write_text(text.format(state=str(self.state)))
            (root / "bin" / name).chmod(0o755)

    @property
    def packages(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = json.loads(self.state.read_text())
        return found

    def install(self, *names: str, **needs: list[str]) -> None:
        self.state.write_text(json.dumps({**self.packages, **{name: [] for name in names}, **needs}))

    def play(self, role: str, *names: str) -> None:
        brought = [name for name in names if name not in self.packages]
        self.install(*brought)
        self.path(role).write_text(json.dumps({"id": role, "packages": [*names], "brought": brought}))

    def remove(self, role: str) -> None:
        environment = {**os.environ, "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"}
        argv = [sys.executable, "-c", _LEAVE, str(self.path(role))]
        subprocess.run(argv, env=environment, check=True)
        self.path(role).unlink()

    def path(self, role: str) -> Path:
        return self.owners / f"role-{role}.json"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("order", [*itertools.permutations(SHARING)], ids="-".join)
def test_a_shared_package_leaves_with_the_last_role_in_each_order(order: tuple[str, ...], host: Host) -> None:
    for role in SHARING:
        assert "python3-venv" in leaving(role)
        host.play(role, *leaving(role))
    *before, last = order
    for role in before:
        host.remove(role)
        assert "python3-venv" in host.packages, f"{role} was not the last"
    host.remove(last)
    assert host.packages == {}


def test_a_package_that_the_host_had_stays(host: Host) -> None:
    host.install("python3-venv")
    for role in SHARING:
        host.play(role, "python3-venv")
    for role in SHARING:
        host.remove(role)
    assert [*host.packages] == ["python3-venv"]


def test_a_package_that_another_package_needs_stays(host: Host) -> None:
    host.play("workloads", "make", "patch")
    host.install(**{"of-a-person": ["make"]})
    host.remove("workloads")
    assert sorted(host.packages) == ["make", "of-a-person"]


def test_owner_files_of_earlier_versions_change_nothing(host: Host) -> None:
    host.play("mlflow", "python3-venv")
    host.path("base").write_text(json.dumps({"id": "base", "wrote": []}))
    host.remove("mlflow")
    assert host.packages == {}
    assert json.loads(host.path("base").read_text()) == {"id": "base", "wrote": []}


def test_no_role_lets_a_driver_a_kernel_or_a_pinned_package_leave() -> None:
    for role in ROLES:
        for entry in ROLES[role].claims:
            if entry.get("leaves") and "present" not in entry:
                assert "package" in entry
                assert entry.keys().isdisjoint({"version", "held", "disturbs", "restart", "installed"}), entry
                assert not ROLES[role].guarded
