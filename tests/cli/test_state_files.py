"""Files of pulumi's state that a full disk leaves behind: empty ones are named with their cure."""

import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rackwright.cli import state as state_files
from rackwright.errors import ChangeRefused, SetupError
from tests.support.stack_settings import configure

STATE = '{"version": 3, "checkpoint": {}}'
LOCK = {"pid": os.getpid(), "username": "op", "hostname": socket.gethostname(), "timestamp": "2026-01-01T00:00:00Z"}
HALF = '{"pid": 4242, "userna'


@pytest.fixture
def state(tmp_path):
    file = tmp_path / ".pulumi/stacks/rackwright/lab.json"
    file.parent.mkdir(parents=True)
    file.write_text(STATE)
    return file


@pytest.fixture
def lock(tmp_path):
    file = tmp_path / ".pulumi/locks/organization/rackwright/lab/1b-2c.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(LOCK))
    return file


def check(tmp_path: Path) -> None:
    state_files._check_state_files("lab", {"PULUMI_BACKEND_URL": f"file://{tmp_path}"})


def test_whole_files_are_let_be(tmp_path, state, lock):
    check(tmp_path)


@pytest.mark.parametrize("left", ["", HALF, "null", "[]", '{"pid": 1}', '{"pid": null, "hostname": "a"}'])
def test_a_damaged_lock_is_named_with_the_command_that_removes_it(tmp_path, state, lock, left):
    lock.write_text(left)
    with pytest.raises(SetupError) as refused:
        check(tmp_path)

    text = str(refused.value)
    assert text.startswith(f"{lock}: the lock of the state is damaged: its {len(left)} bytes are not a lock")
    assert f"`rm {lock}`" in text and "`rackwright up lab`" in text


@pytest.mark.parametrize("left", ["", STATE[:9], "null"])
def test_a_damaged_state_is_put_back_from_the_copy_beside_it(tmp_path, state, left):
    state.write_text(left)
    state.with_name("lab.json.bak").write_text(STATE)
    with pytest.raises(SetupError, match=f"its {len(left)} bytes are not a state .* `cp {state}.bak {state}`"):
        check(tmp_path)


@pytest.mark.parametrize("copy", [None, "", STATE[:5]])
def test_a_damaged_state_without_a_whole_copy_is_moved_aside(tmp_path, state, copy):
    state.write_text("")
    if copy is not None:
        state.with_name("lab.json.bak").write_text(copy)
    with pytest.raises(SetupError, match=f"`mv {state} {state}.damaged`"):
        check(tmp_path)


def test_files_of_other_stacks_and_other_backends_are_let_be(tmp_path, state, lock):
    lock.write_text("")
    state_files._check_state_files("other", {"PULUMI_BACKEND_URL": f"file://{tmp_path}"})
    state_files._check_state_files("lab", {"PULUMI_BACKEND_URL": "s3://bucket"})


def test_a_path_with_a_blank_is_quoted_for_the_shell(tmp_path):
    lock = tmp_path / "a b/.pulumi/locks/organization/rackwright/lab/1.json"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    with pytest.raises(SetupError, match=f"`rm '{lock}'`"):
        check(tmp_path / "a b")


def test_the_lock_of_another_process_is_refused_with_its_holder(tmp_path, lock):
    with pytest.raises(ChangeRefused) as refused:
        state_files.require_unlocked("lab", {"PULUMI_BACKEND_URL": f"file://{tmp_path}"})

    assert refused.value.diagnostic.id == "stack-locked"
    assert f"process {os.getpid()} on {socket.gethostname()} has locked the state" in str(refused.value)


def test_the_lock_of_another_stack_is_none_of_this_one(tmp_path, lock):
    state_files.require_unlocked("lab-full", {"PULUMI_BACKEND_URL": f"file://{tmp_path}"})


def test_two_commands_at_once_create_each_stack_once(tmp_path, monkeypatch):
    """The second one found the stack missing or locked, and printed a note for each."""
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks/rack.yaml").touch()
    configure(tmp_path, "lab", "rack.yaml", "twin:lab")
    environment = {"PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}"}
    both, made = threading.Barrier(2), []

    def create(argv, stack, root, environment):
        time.sleep(0.1)
        made.append(stack)
        file = tmp_path / "state/.pulumi/stacks/rackwright" / f"{stack}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(STATE)

    def command(_: int) -> list[str]:
        both.wait()
        return state_files.create_missing(tmp_path, environment)

    monkeypatch.setattr(state_files, "_run", create)
    with ThreadPoolExecutor(2) as threads:
        created = [*threads.map(command, range(2))]
    assert (sorted(created), made) == ([[], ["lab"]], ["lab"])
