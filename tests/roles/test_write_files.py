"""The module write_files, run in this process: what it writes, what it leaves, and what it shows of a content."""

import base64
import grp
import importlib.util
import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

from tests.support.our_roles import ROOT

OWNER, GROUP = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
Run = Callable[..., dict[str, Any]]


def entry(path: Path, content: bytes, **changes: Any) -> dict[str, Any]:
    encoded = base64.b64encode(content).decode()
    return {"path": str(path), "content": encoded, "owner": OWNER, "group": GROUP, "mode": "0640", **changes}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the module and returns its result."""
    specification = importlib.util.spec_from_file_location("write_files", ROOT / "playbooks/library/write_files.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    def call(*files: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {"files": files, "_ansible_check_mode": check, **options}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        with pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def test_a_file_gets_its_content_and_mode_and_a_second_run_changes_nothing(run: Run, tmp_path: Path) -> None:
    files = [entry(tmp_path / "text", b"one\n"), entry(tmp_path / "bytes", b"\xff\0", mode="0600", binary=True)]

    assert run(*files)["paths"] == [str(tmp_path / "text"), str(tmp_path / "bytes")]
    assert [(tmp_path / name).read_bytes() for name in ("text", "bytes")] == [b"one\n", b"\xff\0"]
    assert [oct((tmp_path / name).stat().st_mode)[-3:] for name in ("text", "bytes")] == ["640", "600"]
    again = run(*files)
    assert (again["changed"], again["paths"]) == (False, [])


@pytest.mark.parametrize("change", [{"mode": "0600"}, {"content": base64.b64encode(b"two\n").decode()}])
def test_only_a_file_that_differs_changes(run: Run, tmp_path: Path, change: dict[str, str]) -> None:
    files = [entry(tmp_path / name, b"one\n") for name in ("a", "b")]
    run(*files)
    before = (tmp_path / "a").stat()

    assert run(files[0], {**files[1], **change})["paths"] == [str(tmp_path / "b")]
    after = (tmp_path / "a").stat()
    # not the time of the last access: the comparison reads the file
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_a_link_is_replaced_and_its_target_stays(run: Run, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to("target")

    run(entry(tmp_path / "link", b"new"))

    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_text() == "new"
    assert (tmp_path / "target").read_text() == "kept"


def test_a_refused_file_is_never_in_place_and_ends_the_run(run: Run, tmp_path: Path) -> None:
    """The command judges each file of a directory before the file is in place; files before it stay."""
    (tmp_path / "judged").mkdir()
    files = [entry(tmp_path / "judged" / name, text) for name, text in (("a", b"good"), ("b", b"bad"), ("c", b"good"))]

    ended = run(*files, validate={str(tmp_path / "judged"): "grep -q good %s"})

    assert ended["failed"] and f"{tmp_path}/judged/b: failed to validate" in ended["msg"]
    assert ended["paths"] == [files[0]["path"]]
    assert [path.name for path in (tmp_path / "judged").iterdir()] == ["a"]


def test_check_mode_names_the_changes_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    assert run(entry(tmp_path / "a", b"one"), check=True)["paths"] == [str(tmp_path / "a")]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("path", ["a", "missing/a"])
def test_the_content_of_a_secret_file_is_in_no_result(run: Run, tmp_path: Path, path: str) -> None:
    """The invocation and the difference are parts of the result, of a failure as well."""
    (tmp_path / "a").write_text("old word")
    file = entry(tmp_path / path, b"new word", secret=True)

    shown = json.dumps(run(file))

    assert str(tmp_path / path) in shown
    assert [word for word in ("old word", "new word", file["content"]) if word in shown] == []


def test_the_difference_of_another_file_has_both_contents(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    [shown] = run(entry(tmp_path / "a", b"new"))["diff"]

    assert (shown["before"], shown["after"]) == ("old", "new")


@pytest.mark.parametrize("unknown", [{"owner": "nobody-at-all"}, {"mode": "rw"}])
def test_an_unknown_account_or_mode_fails_with_the_path(run: Run, tmp_path: Path, unknown: dict[str, str]) -> None:
    ended = run(entry(tmp_path / "a", b"", **unknown))

    assert ended["failed"] and ended["msg"].startswith(f"{tmp_path}/a: ")
