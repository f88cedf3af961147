"""What stays, and that the newest good checkpoint always does."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import sample_checkpoints
from workloads.checkpoint import layout, newest, retention

STEPS = st.sets(st.integers(0, 40), max_size=12)
LAST, EVERY = st.integers(1, 5), st.none() | st.integers(1, 10)


@given(STEPS, LAST, EVERY)
def test_the_newest_and_the_multiples_stay(steps, last, every):
    kept = retention.steps_to_keep(steps, last, every)

    newest = set(sorted(steps, reverse=True)[:last])
    assert kept == {step for step in steps if step in newest or (every and step % every == 0)}


@given(STEPS, LAST, EVERY)
def test_what_stays_once_stays_until_something_newer_comes(steps, last, every):
    kept = retention.steps_to_keep(steps, last, every)

    assert retention.steps_to_keep(kept, last, every) == kept


@pytest.mark.parametrize(("last", "every"), [(0, None), (-1, 5), (1, 0)])
def test_keeping_none_is_refused(last, every):
    with pytest.raises(ValueError, match="at least 1"):
        retention.steps_to_keep({1}, last, every)


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    directory = tmp_path_factory.mktemp("six")
    sample_checkpoints.make(directory, *range(6))
    return directory


@settings(max_examples=40)
@given(damaged=st.sets(st.integers(0, 5)), last=LAST, every=EVERY)
def test_the_newest_good_one_is_never_removed(six, tmp_path_factory, damaged, last, every):
    directory = tmp_path_factory.mktemp("some") / "checkpoints"
    shutil.copytree(six, directory)
    for step in damaged:
        sample_checkpoints.flip(sample_checkpoints.files(directory, step)[1], 0)
    before = newest(directory)
    messages: list[str] = []

    removed = retention.prune(directory, last, every, messages.append)

    after = newest(directory)
    assert (after and after.step) == (before and before.step)
    assert set(removed) <= set(range(6)) - retention.steps_to_keep(range(6), last, every)
    if not damaged:
        assert set(removed) == set(range(6)) - retention.steps_to_keep(range(6), last, every)
        assert messages == []


def test_what_was_left_half_done_is_cleared_away(tmp_path):
    sample_checkpoints.make(tmp_path, 10, 20, 30)
    whole = sample_checkpoints.content(tmp_path)
    name = layout.step_name
    (tmp_path / name(10)).rename(tmp_path / f".{name(10)}.replaced")  # killed between two renames
    shutil.copytree(tmp_path / name(20), tmp_path / f".{name(20)}.replaced")
    shutil.copytree(tmp_path / name(20), tmp_path / f".{name(5)}.removing")
    shutil.copytree(tmp_path / name(20), tmp_path / f".{name(40)}.other.partial")
    (tmp_path / f".{name(40)}.mine.partial").mkdir()

    retention.clean_up(tmp_path, "mine")

    assert sample_checkpoints.content(tmp_path) == whole
    assert (tmp_path / f".{name(40)}.mine.partial").is_dir()
