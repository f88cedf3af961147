"""Python environments that no role made, and that units of servers and runs name."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import python_environments
from tests.support.python_environment import CHANGES, SALT, Host

PLACE = "/opt/workloads"
RUN = f"ExecStart={PLACE}/bin/python -m workloads.training.hosts /etc/rackwright/runs/digits/run.json start"
WORKER = f"X-PythonEnvironment={PLACE}"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    old = os.umask(0o022)
    try:
        made = Host(tmp_path, PLACE)
        made.name_in_unit(RUN)
        return made
    finally:
        os.umask(old)


def found(host: Host) -> Any:
    return {name: read() for name, read in python_environments.readers(str(host.root), SALT).items()}


def odd(host: Host) -> Any:
    return found(host)["other_environments"][PLACE]


@pytest.mark.parametrize("line", [RUN, WORKER, f"ExecStart={PLACE}/bin/python -m workloads.serving model --settings x"])
def test_an_environment_that_a_unit_names_is_compared_whole(host: Host, line: str) -> None:
    """
    Of an environment outside /opt/rackwright nothing was compared.
    """
    host.name_in_unit(line)
    assert found(host) == {"other_environments": {PLACE: []}}
    host.write("lib/python3.11/site-packages/zz.pth", "import os\n")
    assert odd(host) == ["lib/python3.11/site-packages/zz.pth: no package lists it"]
    assert Facts(found(host)).other_environment(PLACE) == tuple(odd(host))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_by_hand_is_named_as_in_those_of_roles(host: Host, name: str) -> None:
    change, expected = CHANGES[name]
    change(host)
    folder_is_open = name == "a writable package"  # an account may change its files while they are read

    assert odd(host) == ([f"{expected[0]}; its files are not compared"] if folder_is_open else expected)


def test_an_environment_of_a_role_or_of_no_unit_has_no_second_row(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert set(found(host)) == {"environment_files"}
    host.name_in_unit(f"X-PythonEnvironment={str(host.top)[len(str(tmp_path)) :]}")
    assert set(found(host)) == {"environment_files"}
    Host(tmp_path, "/opt/other")
    (tmp_path / "etc/systemd/system/server-x.service").write_text("[Service]\nX-PythonEnvironment=/opt/other\n")
    assert set(found(host)) == {"environment_files"}, "a unit that rackwright did not write names nothing"


def test_what_is_not_compared_has_a_line_that_says_so(host: Host) -> None:
    (host.top / "pyvenv.cfg").unlink()
    assert odd(host) == ["it has no pyvenv.cfg, so that venv did not make it; its files are not compared"]
    (host.root / "opt").chmod(0o777)
    assert odd(host) == ["/opt has mode 0777: an account may change what runs; its files are not compared"]
    (host.root / "opt").chmod(0o755)
    host.top.rename(host.root / "elsewhere")
    assert odd(host) == [f"{PLACE} does not exist"]
    host.top.symlink_to("../elsewhere")
    assert odd(host) == [f"{PLACE} is a link; its files are not compared"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_directory_of_another_account_is_not_entered(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(host.source.parent, 65534, 65534)
    host.source.write_text("x = 2\n")
    assert odd(host) == ["lib/python3.11/site-packages/zeug: owner nobody:nogroup; its files are not compared"]
    os.chown(host.top, 65534, 65534)
    monkeypatch.setattr(python_environments.Environment, "_walk", lambda *_: pytest.fail("it is entered"))
    text = "has owner nobody:nogroup: an account may change what runs; its files are not compared"
    assert odd(host) == [f"{PLACE} {text}"]


def test_packages_from_a_directory_are_named(host: Host) -> None:
    origin = {"url": "file:///home/eve/zeug", "dir_info": {"editable": True}}
    host.write("lib/python3.11/site-packages/zeug-1.0.dist-info/direct_url.json", json.dumps(origin))
    host.write("lib/python3.11/site-packages/zeug/__init__.py", "")
    host.record()
    assert odd(host) == ["zeug-1.0.dist-info is installed from a directory: its files are not compared"]
    host.write("lib/python3.11/site-packages/zz.pth", "# of zeug\n\nimport os\nzeug\n/home/eve/zeug\n../../../x\n")
    assert odd(host)[-2:] == [
        "zz.pth leads to ../../../x: its files are not compared",
        "zz.pth leads to /home/eve/zeug: its files are not compared",
    ]
