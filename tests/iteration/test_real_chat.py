"""New conversations come to be promoted for real: learned, judged, exported as GGUF and asked; no host."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rackwright.cli import main
from rackwright.toolchain import cache, workloads
from tests.support.models import FIRST
from tests.support.sources import ROOT
from workloads.serving import model as model_directory

CACHE = cache.directory()
"""With the environment of the workloads; the project of these tests has a cache of its own."""
OLD, NEW = ("rack 41 color?", "blue"), ("rack 41 owner?", "team seven")


@pytest.fixture
def served(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the project, whose server has a language model that knows colors of racks."""
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(CACHE))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    chat(project, "make", str(project / "chat"))
    here = project / ".rackwright"
    for directory in ("train", "models"):
        shutil.rmtree(here / directory)
    (here / "models").mkdir()
    (project / "chat" / FIRST).rename(here / "models" / "digits")
    (project / "chat" / "training").rename(here / "train")
    fleet = project / "stacks" / "serving.yaml"
    fleet.write_text(fleet.read_text().replace("anybody: true", "anybody: true\n    gate: {accuracy_kept: null}"))
    return project


def chat(project: Path, *argv: str) -> str:
    """Return the last line of the support module's output."""
    python = str(workloads.ensure(print).python)
    command = [python, "-m", "tests.support.models.chat", *argv]
    done = subprocess.run(command, cwd=project, env={**os.environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_a_server_learns_answers_that_it_did_not_know(
    served: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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

    status, printed, log = iterate("--until", "promote")
    assert status == 0, log
    report = json.loads(printed)
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

    assert json.loads(chat(served, "ask", str(made), OLD[0], NEW[0])) == [OLD[1], NEW[1]]
