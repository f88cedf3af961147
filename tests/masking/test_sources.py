"""The files of a masking: what another account puts in the place of a file is not followed and not waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rackwright.errors import ChangeRefused
from rackwright.masking.formats import Unreadable
from rackwright.masking.policy import load_policy
from rackwright.masking.sources import Source, list_sources


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text("policy: p\nkey: {secret: k}\ncolumns: {id: {rule: keep}}\n")
    (tmp_path / "data/below").mkdir(parents=True)
    (tmp_path / "data/below/a.jsonl").write_text('{"id": 1}\n')
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.jsonl").write_text('{"id": "secret"}\n')
    return tmp_path / "data"


def listed(data: Path, name: str = "") -> list[Source]:
    return list_sources(str(data / name), None, load_policy(data.parent / "policy.yaml"))


def fifo(data: Path) -> None:
    (data / "below/a.jsonl").unlink()
    os.mkfifo(data / "below/a.jsonl")


def link(data: Path) -> None:
    (data / "below/a.jsonl").unlink()
    (data / "below/a.jsonl").symlink_to(data.parent / "other/a.jsonl")


def device(data: Path) -> None:
    (data / "below/a.jsonl").unlink()
    (data / "below/a.jsonl").symlink_to("/dev/zero")


def folder_link(data: Path) -> None:
    (data / "below").rename(data / "moved")
    (data / "below").symlink_to(data.parent / "other")


@pytest.mark.parametrize("change", [fifo, link, device, folder_link], ids=lambda each: each.__name__)
def test_a_file_that_is_swapped_after_the_list_is_not_read(data: Path, change: Callable[[Path], None]) -> None:
    [source] = listed(data)
    change(data)
    with pytest.raises(Unreadable, match="no regular file"), source.open() as file:
        file.read(1)


@pytest.mark.parametrize("change", [fifo, link, device], ids=lambda each: each.__name__)
def test_a_single_file_that_is_swapped_is_not_read(data: Path, change: Callable[[Path], None]) -> None:
    [source] = listed(data, "below/a.jsonl")
    change(data)
    with pytest.raises(Unreadable, match="no regular file"), source.open() as file:
        file.read(1)


def test_a_directory_that_is_swapped_is_the_listed_one(data: Path) -> None:
    [source] = listed(data)
    data.rename(data.with_name("moved"))
    data.symlink_to(data.with_name("other"))
    with source.open() as file:
        assert file.read() == b'{"id": 1}\n'


def test_a_link_in_a_directory_is_refused_and_one_that_is_the_source_is_followed(data: Path) -> None:
    (data / "linked").symlink_to(data.parent / "other")
    with pytest.raises(ChangeRefused, match="it is no regular file"):
        listed(data)
    with listed(data, "linked")[0].open() as file:
        assert b"secret" in file.read()
