"""Commands refuse an existing output at once, and replace one of their own kind alone, with --replace."""

import json
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.diagnostics import sentences
from workloads.errors import UserError
from workloads.output_directory import OutputDirectory
from workloads.serving import model
from workloads.serving.exported import EXPORT
from workloads.serving.model import MODEL

COMMANDS = {
    "workloads.export": ("none", "--to", "gguf"),
    "workloads.quantize": ("models:/none@champion", "--data", "digits", "--target", "cpu"),
    "workloads.quantize.language_model": ("none", "--to", "int4", "--texts", "none"),
    "workloads.serving.gguf": ("none", "--name", "none"),
    "workloads.serving.vllm": ("none", "--name", "none"),
}
"""Commands that write a directory and start in each environment, with arguments that they refuse later."""
EXPORTS = {"workloads.export", "workloads.quantize.language_model"}
REPORTS = {"workloads.quantize": ".report", "workloads.quantize.language_model": ".report.json"}
FOUND = {
    True: "it has an export of racks, step 40, in bf16; no directory of this name.",
    False: "it has the model racks, version 639e6f1bff1b; no directory of this name.",
}
"""The earlier output in words, by whether it is an export."""
WAY_OUT = "Pass --replace, or choose another directory."


def run(command: str, out: Path, *more: str) -> int:
    name = command if ".serving." in command else f"{command}.__main__"
    status: int = import_module(name).main([*COMMANDS[command], "--out", str(out), *more])
    return status


def earlier(command: str, out: Path) -> Path:
    """Write an earlier output of *command* to *out*."""
    if command in EXPORTS:
        out.mkdir()
        record = {"run": "racks", "step": 40, "dtype": "bf16", "files": {}}
        (out / "lineage.json").write_text(json.dumps(record))
        return out
    (out.parent / "weights").write_bytes(b"weights")
    model.publish(out, {"weights": out.parent / "weights"}, "racks", (), (), {})
    return out


def content(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_earlier_output_is_refused_before_anything_else(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = earlier(command, tmp_path / "out")
    before = content(tmp_path)

    assert run(command, out) == 2
    assert sentences(capsys.readouterr().err).startswith(f"{out}: {FOUND[command in EXPORTS]} {WAY_OUT}")
    assert content(tmp_path) == before
    with suppress(ModuleNotFoundError):  # the work has begun, in an environment that cannot do it
        assert run(command, out, "--replace") != 0
    assert str(out) not in capsys.readouterr().err, "the next error is about the input"


@pytest.mark.parametrize(("command", "suffix"), REPORTS.items())
def test_an_earlier_report_is_refused_as_its_output_is(
    command: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"out{suffix}").write_text("{}")

    assert run(command, tmp_path / "out") == 2
    place = f"{tmp_path}/out{suffix}: an earlier report has this name; no report beside {tmp_path}/out."
    assert sentences(capsys.readouterr().err).startswith(f"{place} {WAY_OUT}")
    with suppress(ModuleNotFoundError):
        run(command, tmp_path / "out", "--replace")
    assert "report" not in capsys.readouterr().err


def training_run(out: Path) -> None:
    (out / "checkpoints").mkdir(parents=True)
    (out / "lineage.json").write_text(json.dumps({"name": "racks", "step": 40, "published": True}))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir, Path.touch, training_run,
        lambda out: out.symlink_to("gone"),
        lambda out: (out.mkdir(), (out / "lineage.json").write_text("{")),
    ],
)  # fmt: skip
def test_anything_else_is_never_replaced(
    command: str, make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "out")

    assert run(command, tmp_path / "out", "--replace") == 2
    text = sentences(capsys.readouterr().err)
    assert text.startswith(f"{tmp_path}/out: it exists, and is not a") and "Choose another directory." in text


def test_a_path_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier("workloads.export", tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    for path in (Path(), tmp_path / "out" / ".."):
        with pytest.raises(UserError, match="the path does not end with a name"):
            OutputDirectory(path, EXPORT, replace=True, report_suffix=".report").check()


def test_an_output_that_appears_during_the_work_stays(tmp_path: Path) -> None:
    output = OutputDirectory(tmp_path / "out", MODEL)
    output.check()
    with pytest.raises(UserError, match="it has the model racks"), output.write() as partial:
        earlier("workloads.serving.vllm", tmp_path / "out")
        output.publish(partial)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "weights"]


def test_a_work_that_fails_leaves_the_earlier_output(tmp_path: Path) -> None:
    earlier("workloads.export", tmp_path / "out")
    output, before = OutputDirectory(tmp_path / "out", EXPORT, replace=True), content(tmp_path)
    with pytest.raises(KeyboardInterrupt), output.write() as partial:
        (partial / "file").touch()
        raise KeyboardInterrupt
    assert content(tmp_path) == before and [path.name for path in tmp_path.iterdir()] == ["out"]
