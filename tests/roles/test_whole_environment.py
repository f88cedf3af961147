"""The module whole_environment, run in this process: it leaves what pip installed, and takes away each other file."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils import basic

from rackwright.facts.probe import python_environments
from rackwright.kinds.role.entries.software import OF_ENVIRONMENT
from tests.support.our_roles import ROOT
from tests.support.python_environment import CHANGES, Host

Run = Callable[..., dict[str, Any]]
INFO = "lib/python3.11/site-packages/zeug-1.0.dist-info"
REBUILT = ("packages of the system", "a setting that is there twice", "another interpreter")
PACKAGE = (
    "a changed module", "a program replaced by a wrapper", "a removed program", "a link in the place of a file",
    "a module without a digest", "a .pth file that a list names without a digest",
    "bytecode without a source that a list names",
)  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Host:
    old = os.umask(0o022)
    try:
        return Host(tmp_path)
    finally:
        os.umask(old)


@pytest.fixture
def module() -> ModuleType:
    place = ROOT / "playbooks/library/whole_environment.py"
    specification = importlib.util.spec_from_file_location("whole_environment", place)
    assert specification and specification.loader
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the module and returns its result."""

    def call(
        host: Host, requirements: str = "zeug==1.0 \\\n    --hash=sha256:00\n", check: bool = False
    ) -> dict[str, Any]:
        text, more = host.root / "requirements.txt", host.root / "patch"
        text.write_text(requirements)
        more.write_text("x")
        name = hashlib.sha256(f"{requirements}x".encode()).hexdigest()[:16]
        place = host.top.parent / f"of-{name}"
        if host.top.exists():
            host.top.rename(place)
        prefix = f"{host.top.parent}/of-"
        arguments = {"prefix": prefix, "named_by": [str(text), str(more)], "_ansible_check_mode": check}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        with pytest.raises(SystemExit):
            module.main()
        if place.exists():
            place.rename(host.top)
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def test_an_environment_as_pip_made_it_is_left(host: Host, run: Run) -> None:
    result = run(host)

    assert (result["changed"], result["removed"]) == (False, [])
    assert host.odd() == []


@pytest.mark.parametrize("name", sorted({*CHANGES} - {*REBUILT}))
def test_after_a_change_by_hand_only_packages_for_pip_are_missing(host: Host, run: Run, name: str) -> None:
    CHANGES[name][0](host)

    assert run(host, check=True)["changed"]
    assert host.odd() == CHANGES[name][1]
    assert run(host)["changed"]

    assert host.odd() == []
    assert (host.top / INFO).exists() == (name not in PACKAGE)
    assert not run(host)["changed"]


@pytest.mark.parametrize("name", REBUILT)
def test_an_environment_with_another_interpreter_is_removed_whole(host: Host, run: Run, name: str) -> None:
    CHANGES[name][0](host)
    run(host)

    assert not host.top.exists()
    assert not run(host)["changed"]


def test_a_package_that_is_not_in_the_list_is_removed(host: Host, run: Run) -> None:
    run(host, "other==1.0\n")

    assert not host.program.exists() and not (host.top / INFO).exists() and not host.source.exists()


def test_a_file_that_two_packages_list_has_the_digest_of_one_of_them(host: Host, run: Run) -> None:
    host.write(
        "lib/python3.11/site-packages/other-1.dist-info/RECORD",
        "zeug/__init__.py,sha256=x,1\nother-1.dist-info/RECORD,,\n",
    )

    assert host.odd() == []
    assert not run(host, "zeug==1.0\nother==1\n")["changed"]


def test_a_changed_pip_removes_the_environment(host: Host, run: Run) -> None:
    host.write("lib/python3.11/site-packages/pip-23.0.1.dist-info/RECORD", "pip/__init__.py,sha256=x,1\n")
    run(host)

    assert not host.top.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_rights_are_taken_away_and_files_stay(host: Host, run: Run) -> None:
    os.chown(host.source.parent, 65534, 65534)
    os.setxattr(host.program, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))

    assert run(host)["changed"] and host.odd() == []
    assert host.source.exists()


def test_the_module_and_the_probe_know_the_same_files(module: ModuleType) -> None:
    """The module runs on a host without the probe."""
    for name in ("OF_VENV", "LINK", "BYTECODE", "UNCHECKED"):
        assert getattr(module, name) == getattr(python_environments, name)
    assert {*module.TOOLS} == {name for name, needed in OF_ENVIRONMENT.items() if not needed}
