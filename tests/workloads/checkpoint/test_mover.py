"""From hot to warm: nothing leaves the hot tier before its copy has been read back."""

import pytest

from tests.support import sample_checkpoints
from workloads.checkpoint import Checkpoints, layout, load, newest
from workloads.checkpoint.__main__ import main
from workloads.checkpoint.mover import MoveResult, move
from workloads.checkpoint.store import DirectoryStore


@pytest.fixture
def hot(tmp_path):
    sample_checkpoints.make(tmp_path / "hot", 10, 20, 30)
    return tmp_path / "hot"


@pytest.fixture
def warm(tmp_path):
    return tmp_path / "warm"


@pytest.fixture
def messages():
    return []


class Bad(DirectoryStore):
    """A store on a drive that changes a byte of what it is given, once."""

    flips = 1

    def put(self, key, source):
        digest = super().put(key, source)
        if self.flips and key.endswith(".json") and "shard" in key:
            sample_checkpoints.flip(self.root / key, 5)
            self.flips -= 1
        return digest


def test_all_are_copied_and_the_newest_stays_hot(hot, warm, messages):
    assert move(hot, DirectoryStore(warm), 1, messages.append) == MoveResult([10, 20, 30], [10, 20], [])

    assert layout.steps(hot) == [30]
    assert layout.steps(warm) == [10, 20, 30]
    assert load(newest(warm)) == sample_checkpoints.state(30)
    assert sample_checkpoints.content(hot / layout.step_name(30)) == sample_checkpoints.content(
        warm / layout.step_name(30)
    )
    assert messages == []


def test_a_second_pass_has_nothing_to_do(hot, warm, messages):
    move(hot, DirectoryStore(warm), 2, messages.append)

    assert move(hot, DirectoryStore(warm), 2, messages.append) == MoveResult([], [], [])


def test_what_comes_back_otherwise_stays_hot_and_is_tried_again(hot, warm, messages):
    store = Bad(warm)

    assert move(hot, store, 1, messages.append) == MoveResult([20, 30], [20], [10])
    assert "STEP 10 IS NOT MOVED" in messages[0] and "differs when it is read back" in messages[0]
    assert load(newest(hot)) == sample_checkpoints.state(30)
    assert layout.steps(hot) == [10, 30]
    assert sample_checkpoints.content(warm).keys() == {
        f"{layout.step_name(s)}/{p.name}" for s in (20, 30) for p in sample_checkpoints.files(warm, 20)
    }
    assert move(hot, store, 1, messages.append) == MoveResult([10], [10], [])


def test_a_copy_that_has_rotted_keeps_the_hot_one(hot, warm, messages):
    move(hot, DirectoryStore(warm), 3, messages.append)
    sample_checkpoints.flip(sample_checkpoints.files(warm, 10)[1], 9)

    assert move(hot, DirectoryStore(warm), 1, messages.append) == MoveResult([], [20], [10])
    assert layout.steps(hot) == [10, 30]


def test_a_damaged_one_is_not_copied(hot, warm, messages):
    sample_checkpoints.flip(sample_checkpoints.files(hot, 30)[1], 9)

    assert move(hot, DirectoryStore(warm), 1, messages.append) == MoveResult([10, 20], [10, 20], [30])
    assert newest(warm).step == 20
    assert list(DirectoryStore(warm).list(layout.step_name(30))) == []


def test_another_checkpoint_of_the_same_step_takes_the_place_of_the_copy(hot, warm, messages):
    move(hot, DirectoryStore(warm), 3, messages.append)
    path = sample_checkpoints.files(hot, 30)[1]
    old = path.read_bytes()
    with Checkpoints(hot, keep_last=9) as checkpoints:
        checkpoints.save(30, {"another": 1})
    assert path.read_bytes() != old

    assert move(hot, DirectoryStore(warm), 3, messages.append) == MoveResult([30], [], [])
    assert load(newest(warm)) == {"another": 1}


def test_a_killed_copy_is_taken_up_again(hot, warm, messages):
    """Its files may be there, its manifest never is."""
    move(hot, DirectoryStore(warm), 3, messages.append)
    (warm / layout.step_name(30) / "manifest.json").unlink()
    (warm / layout.step_name(30) / ".manifest.json.new").write_text("{")
    assert newest(warm).step == 20

    assert move(hot, DirectoryStore(warm), 3, messages.append) == MoveResult([30], [], [])
    assert newest(warm).step == 30


def test_the_command_says_what_it_has_done(hot, warm, capsys):
    assert main(["move", str(hot), str(warm), "--keep-hot", "1", "--keep-last", "2"]) == 0
    assert capsys.readouterr().out == f"copied [10, 20, 30], removed from {hot} [10, 20], not moved []\n"
    assert layout.steps(warm) == [20, 30]


def test_the_command_reports_what_it_could_not_do(hot, warm, capsys):
    sample_checkpoints.flip(sample_checkpoints.files(hot, 30)[1], 9)

    assert main(["move", str(hot), str(warm)]) == 4
    assert "STEP 30 IS NOT MOVED" in capsys.readouterr().err
    assert main(["move", str(hot / "none"), str(warm)]) == 2
    assert main(["move", str(hot), str(warm), "--keep-hot", "0"]) == 2
