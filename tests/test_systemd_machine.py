"""The container with a real systemd that other tests use."""

import itertools
import os
from pathlib import Path

import pytest

from tests.support import systemd_machine
from tests.support.systemd_machine import SystemdMachine

pytestmark = pytest.mark.skipif(systemd_machine.lacks() != "", reason=systemd_machine.lacks())


def groups() -> list[Path]:
    """Return the control groups of the containers of this process; others run tests beside it."""
    pattern = f"rw{os.getpid()}-*"
    return [path for directory in systemd_machine.GROUPS for path in directory.glob(pattern) if path.is_dir()]


def test_two_containers_of_one_process_start_one_after_the_other_and_leave_no_group(tmp_path):
    before = groups()
    for name in ("first", "second"):
        directory = tmp_path / name
        directory.mkdir()
        with SystemdMachine(directory) as machine:
            assert machine.run("systemctl is-active basic.target").strip() == "active"

    assert groups() == before


def test_an_error_at_the_start_is_printed(tmp_path, monkeypatch):
    monkeypatch.setattr(systemd_machine, "_NUMBERS", itertools.repeat(0))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    refused = pytest.raises(AssertionError, match=r"ended with 1: mkdir: .*File exists")
    with SystemdMachine(tmp_path / "first"), refused, SystemdMachine(tmp_path / "second"):
        pass
