"""New conversations come to be promoted for real: learned, judged, exported as GGUF and asked; no host."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from rackwright.cli import main
from rackwright.iteration import process
from rackwright.iteration.candidates import TRAINING, StartingModel
from rackwright.iteration.family import IterationContext
from rackwright.iteration.language_models import LanguageModels
from rackwright.iteration.process_runner import ProcessRunner
from rackwright.iteration.request import IterationRequest
from rackwright.iteration.work import Work
from rackwright.progress import Progress
from rackwright.stack import load_stack
from rackwright.toolchain import workloads
from tests.support.models import FIRST
from tests.support.sources import ROOT
from workloads.serving import model as model_directory

OLD, NEW = ("rack 41 color?", "blue"), ("rack 41 owner?", "team seven")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, preloaded_interpreter: Path) -> Path:
    """Return a directory with conversations and a language model that has learned one sort of them."""
    directory = tmp_path_factory.mktemp("chat") / "made"
    chat(preloaded_interpreter, ROOT, "make", str(directory))
    return directory


@pytest.fixture
def served(made: Path, project: Path, interpreter: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the project, whose server has a language model that knows colors of racks."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copytree(made, project / "chat")  # its training still reads the base model and the data of *made*
    here = project / ".rackwright"
    for directory in ("train", "models"):
        shutil.rmtree(here / directory)
    (here / "models").mkdir()
    (project / "chat" / FIRST).rename(here / "models" / "digits")
    (project / "chat" / "training").rename(here / "train")
    fleet = project / "stacks" / "serving.yaml"
    fleet.write_text(fleet.read_text().replace("anybody: true", "anybody: true\n    gate: {accuracy_kept: null}"))
    return project


def question(number: int) -> dict[str, object]:
    """Return a question with choices, in the form of the model's chat template."""
    asked = f"<|user|>{NEW[0].replace('41', str(number))}<|end|><|assistant|>"
    return {"question": asked, "choices": ["blue", NEW[1]], "answer": 1}


def chat(interpreter: Path, directory: Path, *argv: str) -> str:
    """Return the last line of the support module's output, run in *directory*."""
    command = [interpreter, "-m", "tests.support.models.chat", *argv]
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_a_server_learns_answers_that_it_did_not_know(
    served: Path, interpreter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def iterate(*more: str) -> tuple[int, str, str]:
        argv = ("server", "iterate", "serving", "digits", "--data", "chat/new.jsonl", "--json", *more)
        monkeypatch.setattr(sys, "argv", ["rackwright", *argv])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err  # type: ignore[return-value]

    fleet = served / "stacks" / "serving.yaml"
    text = fleet.read_text()
    forgets = ("--until", "gate", "--set", "tune.fine_tuning.replay=0", "--set", "tune.steps=30")
    status, printed, log = iterate(*forgets)
    assert status == 1, log
    assert "old.jsonl, where the served model has 1.0000" in log
    assert (json.loads(printed)["outcome"], fleet.read_text()) == ("refused", text)

    exam = served / "chat" / "exam.jsonl"
    exam.write_text("".join(f"{json.dumps(question(number))}\n" for number in range(10)))
    choices = ("--choices", str(exam))
    status, printed, log = iterate("--until", "gate", *choices, "--at-least", "1", "--set", "tune.steps=1")
    assert status == 1 and "10 questions of exam.jsonl, of at least 1" in log, log

    status, printed, log = iterate("--until", "promote", *choices, "--at-least", "0.9")
    assert status == 0, log
    report = json.loads(printed)
    assert report["choices"]["questions"] == 10 and report["warning"] == ""
    assert report["choices"]["tuned"] >= 0.9 > report["choices"]["before"]
    new, old = report["accuracy"]
    assert new["tuned"] > 0.9 > new["before"]
    assert new["perplexity_tuned"] < 1.5 < new["perplexity_before"]
    assert old["tuned"] >= old["before"] - 0.01
    made = served / ".rackwright" / "iterations" / "digits" / report["id"] / "model"
    published = model_directory.read(made)
    assert published.version == report["after"]["version"] != report["before"]["version"]
    assert (published.name, published.runtime) == ("chat", "llama.cpp")
    assert published.version in fleet.read_text()
    assert [each["kind"] for each in published.lineage["training"]["data"]] == ["conversations"] * 2
    assert published.lineage["iteration"]["choices"] == report["choices"]

    assert json.loads(chat(interpreter, served, "ask", str(made), OLD[0], NEW[0])) == [OLD[1], NEW[1]]


@pytest.mark.parametrize(("target", "dtype"), [("vllm", "int4"), ("llama.cpp", "q8_0")])
def test_a_trained_model_is_quantised_and_published(served: Path, target: str, dtype: str) -> None:
    """
    Apart from a stack: the check of one with vLLM needs hosts with GPUs.
    """
    work = served / "work"
    shutil.copytree(served / ".rackwright" / "train", work / TRAINING)
    config = json.loads((work / TRAINING / "config.json").read_text())
    model = StartingModel(served, "v", 1, target, "bf16", served, "digest", config, "chat")
    found = asdict(model) | {"directory": str(served), "checkpoint": str(served)}
    score = {"data": "old.jsonl", "answers": 400, "accuracy": 1.0, "loss": 0.0}
    tuned = {"done": True, "came": {"scores": [{**score, "parent": {"accuracy": 0.9, "loss": 1.0}}]}}
    lines: list[str] = []

    def run(argv: Sequence[str], progress: Progress) -> tuple[int, str]:
        return process.run(workloads.ensure(print).python, argv, progress)

    run_python = ProcessRunner(run, lines.append, work / "processes.log")
    changes = (f"publish.dtype={dtype}",)
    request = IterationRequest(load_stack("serving", served), "digits", served / "chat" / "new.jsonl", changes)
    context = IterationContext(request, Work(work, {"found": found, "stages": {"tune": tuned}}), run_python)
    result = LanguageModels().publish(context)

    unfit = "12 matrices stay"  # 64 columns are too few for all but two
    assert any(unfit in line for line in lines) == (dtype == "int4")
    published = model_directory.read(work / "model")
    assert (published.version, published.runtime, result["precision"]) == (result["version"], target, dtype)
    assert published.lineage["training"]["dtype"] == published.lineage["quantization"]["format"] == dtype
    [after] = published.lineage["quantization"]["gate"]["after"]
    assert (after["kind"], Path(after["data"]).name, after["accuracy"] > 0.9) == ("answers", "old.jsonl", True)
    assert LanguageModels().figures(context.work)[0]["after"] == after["accuracy"]
