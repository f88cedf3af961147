"""Builds from Go modules: caches that are whole or not there, and the way out of a build that failed."""

import fcntl
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
