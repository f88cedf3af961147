"""New digits come to be promoted for real: trained, judged, quantised and written into the fleet's file; no host."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rackwright.cli import main
from tests.support.sources import ROOT
from workloads.serving import model as model_directory

ROWS = """\
import sys, numpy
from workloads.training.config import Digits
from workloads.training.data import load
digits = load(Digits(only=(7, 8, 9)))
numpy.savez(sys.argv[1], x=digits.x.numpy(), labels=digits.y.numpy())
"""


@pytest.fixture
def served(project: Path, interpreter: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the project, whose server has a model that knows the digits 0 to 6."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    here = project / ".rackwright"
    for directory in ("train", "models"):
        shutil.rmtree(here / directory)  # those that were pretended
    digits = ("--set", "data.only=[0,1,2,3,4,5,6]", "--set", "steps=100", "--set", "model.channels=16")
    for argv in (
        ("-m", "workloads.training", "digits", "--out", here / "train", *digits),
        ("-m", "workloads.quantize", here / "train", "--data", "training", "--target", "cpu", "--out",
         here / "models" / "digits", "--set", "repeats=5", "--publish-slower", "a test"),
        ("-c", ROWS, project / "new.npz"),
    ):  # fmt: skip
        subprocess.run([interpreter, *argv], check=True, env={**os.environ})
    return project


def test_a_server_learns_digits_that_it_has_never_seen(
    served: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet, before = (
        served / "stacks" / "serving.yaml",
        model_directory.read(served / ".rackwright" / "models" / "digits"),
    )

    def iterate(*more: str) -> tuple[int, str, str]:
        argv = ("server", "iterate", "serving", "digits", "--data", "new.npz", "--json", "--until", "promote", *more)
        monkeypatch.setattr(sys, "argv", ["rackwright", *argv])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err  # type: ignore[return-value]

    text = fleet.read_text()
    forgets = ("--set", "tune.fine_tuning.replay=0", "--set", "tune.steps=60")
    status, document, output = iterate(*forgets)
    assert status == 1, output
    assert "on digits 0, 1, 2, 3, 4, 5, 6, where the served model has 0.9" in output
    assert (json.loads(document)["outcome"], fleet.read_text()) == ("refused", text)

    diverges = ("--processes", "2", "--set", "tune.steps=60", "--set", "tune.optimizer.learning_rate=1e6")
    status, document, output = iterate(*diverges)
    assert status == 4, output
    report = json.loads(document)
    reason = "python -m workloads.training.launch: the process failed with status 4: step "
    assert report["why"].startswith(f"tune: {reason}") and "; finite numbers; " in report["why"]
    assert f"its output is in {report['directory']}/processes.log. Lower the learning rate" in report["why"]
    assert "Run `rackwright server iterate serving digits --data new.npz --processes 2 --set" in report["why"]
    assert "error: step " in Path(report["directory"], "processes.log").read_text()

    learns = ("--set", "tune.steps=200", "--set", "tune.optimizer.learning_rate=5e-3")
    keeps = (*learns, "--set", "quantize.publish_slower=a test", "--may-lose", "0.05")
    status, document, output = iterate(*keeps)
    assert status == 0, output
    report = json.loads(document)
    new, old = report["accuracy"]
    assert (new["before"], new["rows"] > 40) == (0.0, True)
    assert new["after"] > 0.8
    assert old["after"] >= old["before"] - 0.05 > 0.85
    made = model_directory.read(served / ".rackwright" / "iterations" / "digits" / report["id"] / "model")
    assert made.version == report["after"]["version"] != before.version
    assert made.version in fleet.read_text()
    assert made.lineage["precision"] == before.lineage["precision"]
    assert [each["kind"] for each in made.lineage["source"]["training"]["data"]] == ["rows", "digits"]
    assert all(report["stages"][name]["done"] for name in ("find", "tune", "gate", "quantize", "promote"))

    assert iterate(*keeps)[0] == 0
    again = json.loads((served / ".rackwright" / "iterations" / "digits" / report["id"] / "report.json").read_text())
    assert again["stages"]["tune"] == report["stages"]["tune"], "what is done is not done again"
