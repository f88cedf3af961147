"""Two models beside each other, on rows of which neither has learned any."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.model_servers import trained
from workloads.errors import UserError
from workloads.quantize.compare import compare, main
from workloads.quantize.samples import load
from workloads.quantize.source import source
from workloads.serving.model import Tensor, publish
from workloads.training.config import Digits
from workloads.training.data import held_out
from workloads.training.data import load as learned


@pytest.fixture(scope="module")
def child(training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fine-tuning of *training* on the digits one pixel further, among which are two that it knew already."""
    directory = tmp_path_factory.mktemp("child")
    digits, judged = learned(Digits()), held_out(Digits())
    x = np.concatenate([np.roll(digits.x.numpy()[:400], 1, axis=2), judged.x.numpy()[:9]])
    np.savez(directory / "rows.npz", x=x, labels=np.concatenate([digits.y.numpy()[:400], judged.y.numpy()[:9]]))
    tuning = {"parent": str(training), "replay": 0.5, "may_lose": 0.9}
    data = {"kind": "rows", "path": str(directory / "rows.npz")}
    return trained(directory / "out", f"data={json.dumps(data)}", f"fine_tuning={json.dumps(tuning)}", "steps=40")


def test_each_is_judged_on_every_set_and_by_no_row_that_was_learned(training: Path, child: Path) -> None:
    new, old = compare(training, child, child)

    assert (new.data, old.data) == (str(child.parent / "rows.npz"), "digits")
    assert new.after > new.before + 0.05  # type: ignore[operator]
    assert 0.9 < old.before <= 1 and 0.9 < old.after <= 1  # type: ignore[operator]
    report = source(child, child.parent).lineage["training"]["data"]
    assert [each["kind"] for each in report] == ["rows", "digits"]
    leaked = len(held_out(Digits())) - old.rows
    assert 4 <= leaked <= 9, "those of the nine that the child was trained on judge no more"


def test_what_is_the_same_is_as_good(training: Path, tmp_path: Path) -> None:
    argv = [str(training), str(training), "--training", str(training), "--out", str(tmp_path / "compared.json")]
    assert main(argv) == 0
    [report] = json.loads((tmp_path / "compared.json").read_text())
    assert report["before"] == report["after"] > 0.9
    assert report["rows"] == len(held_out(Digits()))


def test_what_takes_other_rows_is_refused(training: Path, tmp_path: Path) -> None:
    found = source(training, tmp_path)
    other = (Tensor(name="x", datatype="FP32", shape=(-1, 9, 9)),)
    publish(tmp_path / "other", {"model.onnx": found.path}, "other", other, found.outputs, {})

    with pytest.raises(UserError, match="the inputs of the training: "):
        compare(tmp_path / "other", training, training)
    with pytest.raises(UserError, match="names no training data"):
        compare(training, training, tmp_path / "other")
    argv = [str(tmp_path), str(training), "--training", str(training), "--out", str(tmp_path / "compared.json")]
    assert main(argv) == 2


def test_what_a_training_was_trained_with_calibrates_and_what_was_held_out_judges(
    training: Path, child: Path, tmp_path: Path
) -> None:
    digits = load("digits", source(training, tmp_path), 256)
    assert load("training", source(training, tmp_path), 256).sha256 == digits.sha256

    sets = load("training", source(child, tmp_path), 10_000)
    assert len(sets.calibration) + len(sets.search) > 1600, "old and new"
    judging, known = set(sets.held_out.digests()), {*sets.calibration.digests(), *sets.search.digests()}
    assert len(judging) > len(digits.held_out) and not judging & known


def test_what_a_file_was_trained_with_is_not_known(training: Path, tmp_path: Path) -> None:
    path = source(training, tmp_path).path.rename(tmp_path / "file.onnx")
    with pytest.raises(UserError, match="only the directory of a training lists its data"):
        load("training", source(path, tmp_path), 256)
