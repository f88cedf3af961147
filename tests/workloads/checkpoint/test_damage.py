"""Whatever is wrong with a checkpoint is found, and the newest that is whole is taken."""

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import sample_checkpoints
from workloads.checkpoint import CheckpointDamaged, at_step, layout, load, manifest, newest
from workloads.checkpoint.manifest import Manifest, ManifestEntry

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
ENTRIES = st.builds(ManifestEntry, st.integers(0, 10**15), DIGESTS)
MANIFESTS = st.integers(1, 4).flatmap(
    lambda world: st.builds(
        Manifest,
        st.integers(0, 10**12),
        st.just(world),
        st.fixed_dictionaries(dict.fromkeys(layout.file_names(world), ENTRIES)),
    )
)


@given(MANIFESTS)
def test_a_manifest_is_read_as_it_was_written(wanted):
    assert manifest.parse(manifest.render(wanted)) == wanted


@given(MANIFESTS, st.data())
def test_no_byte_of_a_manifest_can_change_unseen(wanted, data):
    text = bytearray(manifest.render(wanted))
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))

    with contextlib.suppress(ValueError):
        assert manifest.parse(bytes(text)) != wanted


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "null", "{}", '{"files": []}', '{"step": true, "world": 1, "files": {}}']
)
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(ValueError):
        manifest.parse(text.encode())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    directory = tmp_path_factory.mktemp("two")
    sample_checkpoints.make(directory, 10, 20)
    return directory


@settings(max_examples=60)
@given(data=st.data())
def test_a_flipped_byte_is_found_wherever_it_is(two, tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("flipped") / "checkpoints"
    shutil.copytree(two, directory)
    path = data.draw(st.sampled_from(sample_checkpoints.files(directory, 20)))
    sample_checkpoints.flip(path, data.draw(st.integers(0, path.stat().st_size - 1)), data.draw(st.integers(1, 255)))

    assert newest(directory).step == 10


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("how", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_missing_or_short_file_is_found(two, tmp_path, capsys, number, how):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two, directory)
    path = sample_checkpoints.files(directory, 20)[number]
    how(path)

    assert newest(directory).step == 10
    assert path.name in capsys.readouterr().err


def test_a_directory_under_another_name_is_not_taken(two, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two, directory)
    (directory / layout.step_name(20)).rename(directory / layout.step_name(30))

    assert newest(directory).step == 10


def test_where_all_are_damaged_there_is_none(two, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two, directory)
    for step in (10, 20):
        sample_checkpoints.flip(sample_checkpoints.files(directory, step)[-1], 0)

    assert newest(directory) is None
    assert newest(tmp_path / "nothing") is None


def test_what_is_loaded_without_a_look_before_is_looked_at_then(two, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(two, directory)
    assert load(at_step(directory, 20)) == sample_checkpoints.state(20)
    sample_checkpoints.flip(sample_checkpoints.files(directory, 20)[1], 7)

    with pytest.raises(CheckpointDamaged, match="shard-00000-of-00001.json has the sha256"):
        load(at_step(directory, 20))
