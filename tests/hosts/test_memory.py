"""What is in memory only, and that nothing of ours stays there."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rackwright.hosts import memory
from rackwright.hosts.memory import in_memory, private
from rackwright.scratch import leave_nothing, own_directory

HOLD = """
import os, sys
from pathlib import Path
from rackwright.hosts import memory

memory.PLACES = (Path(sys.argv[1]),)
with memory.private() as directory:
    (directory / "secret").write_text("secret")
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that passes for memory, for this test alone."""
    monkeypatch.setattr(memory, "PLACES", (tmp_path,))
    return tmp_path


def test_shared_memory_is_and_what_holds_this_file_or_the_kernels_views_is_not() -> None:
    assert in_memory(Path("/dev/shm"))
    assert not in_memory(Path(__file__).parent)
    assert not in_memory(Path("/proc"))


def test_a_private_directory_belongs_to_one_account_and_is_removed(place: Path) -> None:
    with private() as directory:
        (directory / "secret").touch()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert directory.parent == own_directory(place)

    assert list(own_directory(place).iterdir()) == []


def test_who_ends_in_the_middle_of_it_leaves_nothing(place: Path) -> None:
    with private() as directory:
        (directory / "secret").touch()
        leave_nothing()
        assert list(own_directory(place).iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_and_what_is_in_use_stays(place: Path) -> None:
    """
    Nobody asks for process numbers, which come again: the kernel knows who holds a directory.
    """
    argv = [sys.executable, "-c", HOLD, str(place)]
    holders = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    left, used = (Path(holder.stdout.readline().strip()) for holder in holders if holder.stdout)
    os.kill(holders[0].pid, signal.SIGKILL)
    holders[0].wait()
    assert (left / "secret").exists()

    with private() as directory:
        assert set(own_directory(place).iterdir()) == {used, directory}

    holders[1].communicate("")
    assert list(own_directory(place).iterdir()) == []


def test_a_planted_link_is_not_followed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").touch()
    (own_directory(place) / "scratch-x").symlink_to(elsewhere)

    with private():
        pass

    assert (elsewhere / "kept").exists()


def test_a_computer_without_such_a_place_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PLACES", (Path("/proc/nowhere"),))

    with pytest.raises(memory.SetupError, match="neither /proc/nowhere is writable"), private():
        pass
