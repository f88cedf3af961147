"""Builds from Go modules: caches that are whole or not there, and the way out of a build that failed."""

import fcntl
import re
import shutil

import pytest

from rackwright.errors import SetupError
from rackwright.toolchain import go
from rackwright.toolchain.kubernetes import programs
from rackwright.toolchain.sources import ToolUnavailable


@pytest.fixture
def builder(tmp_path, monkeypatch):
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path))
    builder = go.Go("go", tmp_path / "kubernetes.log", lambda _: None)
    module = builder.caches / "modules" / "example.com@v1"
    module.mkdir(parents=True)
    (module / "half.go").write_text("package half")
    return builder


def test_an_interrupted_removal_leaves_no_half_of_a_module(builder, monkeypatch) -> None:
    def interrupt(place, **_):
        if place.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(shutil, "rmtree", interrupt)
        builder.remove_caches()
    assert not builder.caches.exists()
    builder.caches.mkdir()
    builder.remove_caches()  # the rest of the first removal goes as well
    assert not list(builder.caches.parent.iterdir())


def test_a_build_that_failed_is_not_a_missing_go(monkeypatch, tmp_path) -> None:
    def fail(*_):
        raise go.BuildFailed("go build failed: disk full")

    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(go, "_find", fail)
    with pytest.raises(SetupError) as failure:
        programs.build(tmp_path, lambda _: None)
    assert "disk full" in str(failure.value)
    assert "Install Go" not in str(failure.value)
    assert "Install Go" in str(go.setup_error("registry", ToolUnavailable("there is no go on PATH")))


def test_a_build_waits_for_no_other_one_but_for_itself(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(go, "_find", lambda log, progress: go.Go("go", log, progress))
    with go.hold_builder("pulumi-kubernetes", print) as first, go.hold_builder("toolchain", print) as second:
        assert first.caches != second.caches
        for name in ("pulumi-kubernetes", "toolchain"):
            with (tmp_path / "go" / f"{name}.lock").open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


GO = """\
#!/bin/sh
case "$1" in
list) echo 'go: downloading example.com/a v1' >&2; sleep 0.3; yes x | head -n 40;;
build) for number in $(seq 10); do echo "package/$number" >&2; done; sleep 0.3;;
test) sleep 0.3;;
esac
"""


@pytest.mark.parametrize(
    ("tests", "lines"),
    [
        (False, [r"  1 modules fetched, counting packages", r"  10 of 40 packages compiled, about \d+ min left"]),
        (True, [r"  0 modules fetched, compiling"]),
    ],
)
def test_a_build_says_how_much_is_left(tests, lines, monkeypatch, tmp_path) -> None:
    """A number grew for fifteen minutes, and the end was unknown."""
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(go, "REPORT_SECONDS", 0.1)
    command, shown = tmp_path / "go", []
    command.write_text(GO)
    command.chmod(0o755)
    builder = go.Go(str(command), tmp_path / "registry.log", shown.append)

    builder.build(go.Programs(tmp_path, ("example.com/a",), tests=tests), tmp_path)

    for line in lines:
        assert any(re.fullmatch(line, each) for each in shown), shown


def test_a_listing_that_fails_is_a_failed_build(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path / "cache"))
    command = tmp_path / "go"
    command.write_text("#!/bin/sh\necho 'go: no such module' >&2\nexit 1\n")
    command.chmod(0o755)
    builder = go.Go(str(command), tmp_path / "registry.log", print)

    with pytest.raises(go.BuildFailed, match="go list failed: go: no such module"):
        builder.build(go.Programs(tmp_path, ("example.com/a",)), tmp_path)
