"""A private run begins at its first step, keeps its identity, and has a receipt only for what was charged."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.training_runs import config
from tests.workloads.training.privacy.test_private_run import ledger, private
from workloads.errors import UserError
from workloads.training.config import TrainingConfig
from workloads.training.privacy import budget
from workloads.training.privacy.receipts import receipt
from workloads.training.run import train

SHORT = ("steps=2", "saving.every_steps=1", "model.channels=4")


def test_a_training_without_privacy_is_not_continued_privately(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(config("digits", *SHORT), out, {})
    with pytest.raises(UserError, match="one without privacy"):
        train(private(tmp_path, *SHORT), out, {})
    assert not ledger(tmp_path).charges()
    with pytest.raises(UserError):
        receipt(out)


def test_the_checkpoint_of_another_private_run_is_not_continued(tmp_path: Path) -> None:
    train(private(tmp_path, *SHORT), tmp_path / "one", {})
    shutil.copytree(tmp_path / "one/checkpoints", tmp_path / "two/checkpoints")
    with pytest.raises(UserError, match="another run has written it"):
        train(private(tmp_path, *SHORT), tmp_path / "two", {})


def test_a_run_that_has_lost_its_name_is_not_continued(tmp_path: Path) -> None:
    train(private(tmp_path, *SHORT), tmp_path / "out", {})
    (tmp_path / "out/privacy.json").unlink()
    with pytest.raises(UserError, match="another run has written it"):
        train(private(tmp_path, *SHORT), tmp_path / "out", {})


OTHER_BUDGET = {"epsilon": 8.0, "delta": 1e-4}


def begun_settings(place: Path, *changes: str, **values: Any) -> TrainingConfig:
    data = f"data={json.dumps({'kind': 'rows', 'path': str(place / 'rows.npz'), 'held_out': 0.0})}"
    return private(place, *SHORT, data, "global_batch=20", *changes, **values)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a run that has taken its first step: no refused run changes it."""
    place = tmp_path_factory.mktemp("begun")
    np.savez(place / "rows.npz", **rows())
    train(begun_settings(place), place / "out", {}, stop_at=1)
    return place


@pytest.mark.parametrize(
    ("part", "changes", "values"),
    [
        ("privacy", (), {"epsilon": 0.6}),
        ("privacy", (), {"delta": 9e-5}),
        ("privacy", (), {"clip": 2.0}),
        ("privacy", (), {"data": "decoy"}),
        ("privacy", (), {"budget": {**OTHER_BUDGET, "ledger": "other"}}),
        ("privacy", (), {"unit": "person"}),
        ("data", ("data.held_out=0.1",), {}),
        ("seed", ("seed=1",), {}),
        ("model", ("model.channels=8",), {}),
    ],
)
def test_a_run_keeps_its_identity(begun: Path, part: str, changes: tuple[str, ...], values: dict[str, Any]) -> None:
    if "budget" in values:
        values = {"budget": {**values["budget"], "ledger": str(begun / "other")}}
    before = ledger(begun).file.read_bytes()
    with pytest.raises(UserError, match=f"begun with another value of {part}"):
        train(begun_settings(begun, *changes, **values), begun / "out", {})
    assert ledger(begun).file.read_bytes() == before
    assert not (begun / "other").exists()


def rows(count: int = 120) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.random((count, 8, 8), np.float32)
    return {"x": x, "labels": generator.integers(0, 10, count), "group": np.arange(count) // 2}


def test_a_receipt_has_charges_for_each_step(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(private(tmp_path, *SHORT), out, {})
    found = receipt(out)
    assert found["step"] == 2
    assert 0 < found["epsilon"] <= 0.5
    assert sum(each["steps"] for each in found["mechanisms"]) == 2
    head, first, second = ledger(tmp_path).file.read_text().splitlines(keepends=True)
    for lines in ((head,), (head, first), (head, second)):
        ledger(tmp_path).file.write_text("".join(lines))
        with pytest.raises(UserError, match="and the model has taken 2"):
            receipt(out)


def test_a_receipt_has_the_promise_that_was_charged(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(private(tmp_path, *SHORT), out, {})
    known = json.loads((out / "privacy.json").read_text())
    known["identity"]["privacy"]["clip"] = 0.1
    (out / "privacy.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match="another identity"):
        receipt(out)


def test_a_receipt_is_for_a_checkpoint_that_was_read(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(private(tmp_path, *SHORT), out, {})
    lineage, checkpoints = (out / "lineage.json").read_text(), out / "checkpoints"
    (out / "lineage.json").write_text(json.dumps(json.loads(lineage) | {"checkpoint": "f" * 64}))
    with pytest.raises(UserError, match="another one than the run has ended with"):
        receipt(out)
    (out / "lineage.json").write_text(json.dumps(json.loads(lineage) | {"step": 9}))
    with pytest.raises(UserError, match="and the model has taken 9"):
        receipt(out)
    (out / "lineage.json").write_text(lineage)
    shard = max((checkpoints / "step-0000000002").iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError):
        receipt(out)
    shutil.rmtree(checkpoints)
    with pytest.raises(UserError):
        receipt(out)


def test_a_receipt_names_the_code_that_has_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, step in (("a", 1), ("b", 2)):
        monkeypatch.setattr(budget, "code_digest", lambda name=name: name * 64)
        train(private(tmp_path, *SHORT), tmp_path / "out", {}, stop_at=step)
    found = receipt(tmp_path / "out")
    assert found["code"] == ["a" * 64, "b" * 64]
    assert found["identity"] == ledger(tmp_path).charges()[0].identity
