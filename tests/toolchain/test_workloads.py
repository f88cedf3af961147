"""The environment of the workloads: one for each lock, and Horovod's wheel one for each of what it links."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.errors import SetupError
from rackwright.toolchain import cache, horovod, workloads
from rackwright.toolchain.sources import ToolUnavailable
from tests.support.our_roles import REPOSITORY


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path))


def test_a_wheel_is_named_by_all_that_it_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> set[str]:
        return {
            horovod.key(python, torch, horovod.flags(more))
            for python in ("3.11.2", "3.12.1")
            for torch in ("2.13.0", "2.13.1")
            for more in ({}, {"HOROVOD_GPU_OPERATIONS": "NCCL"})
        }

    before = keys()
    patch = tmp_path / "other.patch"
    patch.write_text("another patch")
    monkeypatch.setattr(horovod, "PATCH", patch)
    assert len(before | keys()) == 16


def test_the_environment_of_a_launcher_is_not_taken_for_flags() -> None:
    content = {"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2", "HOROVOD_GPU_OPERATIONS": "NCCL"}
    assert horovod.flags(content) == {**horovod.flags({}), "HOROVOD_GPU_OPERATIONS": "NCCL"}


def test_flags_are_those_that_hosts_build_it_with() -> None:
    written = REPOSITORY.render(
        "workloads/opt/rackwright/workloads/horovod.env.j2", workloads_operations=""
    ).splitlines()

    assert {f"{name}={value}" for name, value in horovod.flags({}).items()} == {
        line for line in written if not line.startswith("#")
    }


def test_without_a_compiler_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolUnavailable, match=r"there is no c\+\+, make, patch on PATH"):
        horovod.wheel(tmp_path / "python", ("3.11.2", "2.13.0"), print)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the environments that are made; none really is."""
    made: list[Path] = []

    def install(
        directory: Path, lock: Path, size: str, say: Callable[[str], None], program: Path | None = None
    ) -> None:
        directory.mkdir(parents=True)
        (directory / "ready").touch()
        made.append(directory)

    monkeypatch.setattr(workloads, "_install", install)
    return made


def test_where_horovod_cannot_be_built_it_is_reported_and_tried_again(
    installed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(python: Path, say: Callable[[str], None]) -> None:
        raise ToolUnavailable("Horovod: no compiler")

    monkeypatch.setattr(workloads, "_add_horovod", fails)
    assert workloads.ensure(print).without_horovod == "Horovod: no compiler"
    monkeypatch.setattr(workloads, "_add_horovod", lambda python, say: None)
    assert not workloads.ensure(print).without_horovod
    monkeypatch.setattr(workloads, "_add_horovod", fails)
    assert not workloads.ensure(print).without_horovod, "what is there is not built again"
    assert len(installed) == 1


def test_work_that_torchrun_can_do_waits_for_no_build_of_horovod(
    installed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []
    monkeypatch.setattr(workloads, "_add_horovod", lambda python, say: built.append(python))
    assert workloads.ensure(print, build_horovod=False).without_horovod == "Horovod is not built yet"

    def held(*given: object) -> object:
        raise AssertionError("it waits for the process that builds Horovod")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "hold_lock", held)
        assert workloads.ensure(print, build_horovod=False).without_horovod
    assert (len(installed), built) == (1, [])

    assert not workloads.ensure(print).without_horovod
    assert len(built) == 1
    assert not workloads.ensure(print, build_horovod=False).without_horovod, "what is there is taken"


def test_the_option_is_for_the_workloads(monkeypatch: pytest.MonkeyPatch, installed: list[Path]) -> None:
    monkeypatch.setattr(workloads, "_add_horovod", lambda python, say: pytest.fail("Horovod was built"))
    done = CliRunner().invoke(app, ["toolchain", "workloads", "--without-horovod"])
    assert done.exit_code == 0, done.output
    assert "Horovod is not built yet; torchrun takes its place" in " ".join(done.output.split())
    assert CliRunner().invoke(app, ["toolchain", "serving", "--without-horovod"]).exit_code == 2


def test_another_lock_is_another_environment(
    installed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workloads, "_add_horovod", lambda python, say: None)
    lock = tmp_path / "lock.txt"
    lock.write_text("torch==2.14")
    one = workloads.ensure(print)
    monkeypatch.setattr(workloads, "LOCK", lock)
    other = workloads.ensure(print)
    assert one.directory != other.directory
    assert {one.directory.parent, other.directory.parent} == {cache.directory() / "workloads"}


def test_what_serves_is_an_environment_of_its_own(installed: list[Path], tmp_path: Path) -> None:
    one = workloads.serving(print)
    assert workloads.serving(print) == one
    assert installed == [one.directory]
    assert one.directory.parent == tmp_path / "serving"


def test_what_serves_brings_no_pytorch() -> None:
    names = [line.partition("==")[0] for line in workloads.SERVING.read_text().splitlines() if "==" in line]
    assert "onnxruntime" in names
    assert not {"torch", "onnx", "transformers", "scikit-learn"} & set(names)


def test_an_installation_shows_its_step_and_an_estimate(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("# ten packages\n" + "".join(f"p{n}==1.{n} \\\n    --hash=sha256:00\n" for n in range(10)))
    steps = workloads._Steps(tmp_path, lock)

    assert steps.line("", 0) == "making the environment"
    assert steps.line("Collecting p0==1.0\n", 20) == "fetched 0 of 10 packages"
    fetched = "".join(f"Collecting p{n}==1.{n}\n  Downloading p{n}.whl (3 MB)\n" for n in range(6))
    assert steps.line(fetched, 140) == "fetched 5 of 10 packages, about 2 min left"
    for number in range(2):
        (tmp_path / f"lib/python3.11/site-packages/p{number}.dist-info").mkdir(parents=True)
    fetched += "Installing collected packages: p0, p1\n"
    assert steps.line(fetched, 200) == "installed 2 of 10 packages"
    assert steps.line(fetched, 230) == "installed 2 of 10 packages, about 2 min left"


def test_a_pip_that_fails_ends_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("no-such-package==1.0 --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SetupError, match="pip failed, and printed .*no-such-package"):
        workloads.ensure_lock("small", lock, "nothing", print)
