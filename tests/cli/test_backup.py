"""`rackwright backup` and `restore`, as typed."""

import json
import sys
from pathlib import Path

import pytest

from rackwright.cli import main
from tests.support import sample_checkpoints


@pytest.fixture
def rackwright(tmp_path, monkeypatch, capsys):
    """Type a command in a directory with a training's checkpoints; returns status, stdout and stderr."""
    sample_checkpoints.make(tmp_path / "digits", 10)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rackwright", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def test_there_and_back(rackwright):
    status, out, err = rackwright("backup", "digits", "--compression", "zst", "--json")
    assert status == 0, err
    archive = json.loads(out)
    assert (archive["step"], archive["files"]) == (10, 2)

    assert rackwright("restore", archive["path"])[1].endswith("read back intact\n")
    assert rackwright("restore", archive["path"], "--to", "back")[0] == 0
    assert sample_checkpoints.content(Path("back")) == {
        name: content for name, content in sample_checkpoints.content(Path("digits")).items() if name.startswith("step")
    }

    status, out, err = rackwright("restore", archive["path"], "--to", "back")
    assert (status, out) == (2, "")
    assert "the checkpoint exists already" in err


def test_what_is_wrong_has_its_status(rackwright):
    archive = json.loads(rackwright("backup", "digits", "--json")[1])["path"]
    sample_checkpoints.flip(Path(archive), 40_000)
    sample_checkpoints.flip(sample_checkpoints.files(Path("digits"), 10)[1], 0)
    Path("empty").mkdir()
    wrong = {
        ("restore", archive): 1,
        ("restore", "nothing.tar"): 4,
        ("backup", "digits"): 1,
        ("backup", "digits", "--step", "10"): 1,
        ("backup", "empty"): 2,
        ("backup", "nothing"): 2,
    }

    for arguments, wanted in wrong.items():
        status, out, err = rackwright(*arguments)
        assert (status, out) == (wanted, ""), arguments
        assert err
