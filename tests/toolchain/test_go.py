"""Builds from Go modules: caches that are whole or not there, and the way out of a build that failed."""

import shutil

import pytest

from rackwright.errors import SetupError
from rackwright.toolchain import go
from rackwright.toolchain.kubernetes import programs
from rackwright.toolchain.sources import ToolUnavailable


@pytest.fixture
def builder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = tmp_path / "rackwright" / "go" / "modules" / "example.com@v1"
    module.mkdir(parents=True)
    (module / "half.go").write_text("package half")
    return go.Go("go", tmp_path / "log", lambda _: None)


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
    assert not list(builder.caches.parent.glob("go*"))


def test_a_build_that_failed_is_not_a_missing_go(monkeypatch, tmp_path) -> None:
    def fail(*_):
        raise go.BuildFailed("go build failed: disk full")

    monkeypatch.setattr(programs.go, "find", fail)
    with pytest.raises(SetupError) as failure:
        programs.build(tmp_path, lambda _: None)
    assert "disk full" in str(failure.value)
    assert "Install Go" not in str(failure.value)
    assert "Install Go" in str(go.setup_error("registry", ToolUnavailable("there is no go on PATH")))
