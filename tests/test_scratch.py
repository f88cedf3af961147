"""Directories for temporary files, in a place to which all accounts write."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rackwright import process_tree, scratch
from rackwright.errors import SetupError
from rackwright.twin import layout

OTHER = 65534
"""The number of an account without rights."""
AS_OTHER = "import os, sys; os.setgroups([]); os.setgid({0}); os.setuid({0}); {1}"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory such as /tmp."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    return shared


def opened(path: Path) -> None:
    """Give all accounts the way to *path*, below the test's own directory."""
    for each in (path, *path.parents):
        if each.stat().st_uid == os.geteuid() and each != Path("/") and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)


def as_other(program: str) -> str:
    """Return what the Python text *program* prints as another account."""
    argv = [sys.executable, "-I", "-S", "-c", AS_OTHER.format(OTHER, program)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_the_directory_of_a_process_goes_with_it_in_silence(tmp_path: Path) -> None:
    script = """
import builtins
from rackwright import scratch
(scratch.of_process() / "file").write_text("text")
builtins.kept = scratch  # until the end, when Python empties modules name by name
"""

    done = subprocess.run(
        [sys.executable, "-c", script], env={"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True
    )

    assert (done.stderr, [*scratch.own_directory(tmp_path).iterdir()]) == ("", [])


@pytest.mark.parametrize(
    "name", ["rackwright-scratch-x", "rackwright-private-x", "scratch-x", "new-x", "rackwright-1", "rackwright-0-x"]
)
def test_a_directory_that_another_account_moves_to_the_place_is_kept(place: Path, name: str) -> None:
    """Another account needs no right but that to the parent of a directory of this account."""
    (place / name).mkdir()
    (place / name / "kept").touch()

    with scratch.directory(place) as directory:
        assert directory.parent == place / f"rackwright-{os.geteuid()}"

    assert (place / name / "kept").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o2770, 0o755])
@pytest.mark.parametrize("passable", [False, True])
def test_a_directory_in_the_place_of_the_own_one_is_not_used(place: Path, mode: int, passable: bool) -> None:
    """To move a directory of this account below another one, an account needs the right to write to it."""
    if passable and mode == 0o755:
        pytest.skip("no other account may write to it")
    own = place / f"rackwright-{os.geteuid()}{'-images' if passable else ''}"
    (own / "scratch-x").mkdir(parents=True)
    own.chmod(mode)

    with pytest.raises(scratch.NotOwn, match=f"{own} belongs to user {os.geteuid()} with mode {mode:04o}"):
        scratch.own_directory(place, passable)
    with scratch.directory(place, passable) as directory:
        assert directory.parent == place and stat.S_IMODE(directory.stat().st_mode) == (0o711 if passable else 0o700)

    assert [*place.iterdir()] == [own] and (own / "scratch-x").exists() and stat.S_IMODE(own.stat().st_mode) == mode


def test_a_link_in_the_place_of_the_own_directory_is_not_followed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "scratch-x").mkdir(parents=True, mode=0o700)
    own = place / f"rackwright-{os.geteuid()}"
    own.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(scratch.NotOwn, match=f"{own} is no directory of this account"):
        scratch.own_directory(place)
    with scratch.directory(place) as directory:
        assert directory.parent == place

    assert [*place.iterdir()] == [own] and (tmp_path / "elsewhere" / "scratch-x").exists()


def test_sockets_of_a_twin_are_refused_in_a_directory_of_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / f"rackwright-{os.geteuid()}").mkdir()
    (place / f"rackwright-{os.geteuid()}").chmod(0o777)
    monkeypatch.setattr(layout, "SOCKETS", place)

    with pytest.raises(SetupError, match=r"the directory of the twin's sockets is not private: .* with mode 0777"):
        layout.runtime_base()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a directory of another account")
def test_a_directory_of_another_account_is_not_used(place: Path) -> None:
    own = place / "rackwright-0"
    own.mkdir(mode=0o700)
    os.chown(own, OTHER, OTHER)

    with pytest.raises(scratch.NotOwn, match=f"belongs to user {OTHER}"):
        scratch.own_directory(place)
    with scratch.directory(place) as directory:
        assert directory.parent == place


def test_the_end_removes_what_the_directory_has_and_nothing_that_took_its_name(place: Path) -> None:
    """In a place without the sticky bit, other accounts rename directories of this account."""
    with scratch.directory(place) as directory:
        (directory / "file").touch()
        own = directory.parent
        own.rename(place / "moved")
        (own / directory.name / "kept").mkdir(parents=True)

    assert (own / directory.name / "kept").exists()
    assert not [*(place / "moved" / directory.name).iterdir()]


@pytest.mark.skipif(os.geteuid() != 0, reason="reads as another account")
def test_another_account_reads_no_file_of_a_guarded_program(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(place)
    monkeypatch.setenv("TMPDIR", str(place))
    script = 'umask 022; echo text > "$TMPDIR/foreseeable"; echo "$TMPDIR"; exec "$@" "$TMPDIR/foreseeable"'
    look = [sys.executable, "-I", "-S", "-c", AS_OTHER.format(OTHER, "print(os.path.exists(sys.argv[1]))")]

    done = process_tree.run(["sh", "-c", script, "sh", *look])

    temporary, is_seen = done.stdout.splitlines()
    assert Path(temporary).parent == place / "rackwright-0"
    assert is_seen == "False"


@pytest.mark.skipif(os.geteuid() != 0, reason="reads as another account")
def test_programs_in_a_user_namespace_read_names_that_they_know(place: Path) -> None:
    opened(place)
    with scratch.directory(place, passable=True) as directory:
        (directory / "file").write_text("text")
        assert as_other(f"print(open({str(directory / 'file')!r}).read())") == "text"
        assert as_other(f"print(os.access({str(directory.parent)!r}, os.R_OK | os.W_OK))") == "False"
