"""Going on from a parent: never worse unless somebody says why, exact after a stop, and its lineage is written down."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.training_runs import assert_same, config, read_metrics, weights
from workloads.checkpoint import newest
from workloads.errors import UserError
from workloads.training.__main__ import main
from workloads.training.fine_tuning import WorseThanParent
from workloads.training.parent_model import checkpoint_digest
from workloads.training.run import train as train_whole

LOW, HIGH = "data.only=[0,1,2,3,4]", "data.only=[5,6,7,8,9]"
QUICK = (
    "global_batch=32", "schedule.kind=constant", "optimizer.learning_rate=5e-3", "model.channels=8",
    "report_every_steps=100", "saving.every_steps=100",
)  # fmt: skip


def train(out: Path, *changes: str, stop_at: int | None = None, publish_worse: str | None = None) -> bool:
    return train_whole(config("digits", *QUICK, *changes), out, {}, stop_at, publish_worse)


def child(parent: Path, **values: Any) -> str:
    return f"fine_tuning={json.dumps({'parent': str(parent), 'evaluate_every_steps': 20, **values})}"


def lineage(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "lineage.json").read_text())
    return read


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a run has learned the low digits."""
    out = tmp_path_factory.mktemp("parent")
    train(out, LOW, "steps=100")
    return out


def test_a_model_that_forgets_is_published_only_with_a_reason(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = (HIGH, "steps=40", child(parent))
    with pytest.raises(WorseThanParent) as refused:
        train(tmp_path, *changes)
    assert "on digits 0, 1, 2, 3, 4, where its parent has 0.9" in str(refused.value)
    assert "--publish-worse REASON" in str(refused.value)
    assert lineage(tmp_path)["published"] is False

    before = weights(tmp_path)
    with pytest.raises(WorseThanParent):  # started again, it is still worse
        train(tmp_path, *changes)
    assert train(tmp_path, *changes, publish_worse="low digits are retired")
    assert (lineage(tmp_path)["published"], lineage(tmp_path)["forced"]) == (True, "low digits are retired")
    assert_same(before, weights(tmp_path))
    printed = capsys.readouterr().out
    assert "the model has the weights of step 20, which did best on all that is held out" in printed
    [published] = [line for line in printed.splitlines() if "published" in line]
    assert published.startswith("published all the same (low digits are retired): the accuracy is ")
    assert "not published" not in published and "--publish-worse" not in published


def test_other_held_out_data_is_refused_as_the_parent_was_not_scored_on_it(parent: Path, tmp_path: Path) -> None:
    changes = ("steps=40", child(parent))
    train(tmp_path, HIGH, *changes, stop_at=20)
    with pytest.raises(UserError) as error:
        train(tmp_path, "data.only=[8,9]", *changes)
    assert "checkpoint of step 20: the held-out examples are not those by which its parent was scored" in str(
        error.value
    )
    assert "those of digits 8, 9 are new" in str(error.value)


def test_replay_keeps_what_was_known(parent: Path, tmp_path: Path) -> None:
    assert train(tmp_path, HIGH, "steps=240", child(parent, replay=0.5, may_lose=0.05, evaluate_every_steps=80))
    of_high, of_low = lineage(tmp_path)["scores"]
    assert of_high["accuracy"] > of_high["parent"]["accuracy"] + 0.5
    assert of_low["accuracy"] > of_low["parent"]["accuracy"] - 0.05
    assert lineage(tmp_path)["published"] is True


def test_a_child_begins_with_its_parents_weights_and_both_are_written_down(parent: Path, tmp_path: Path) -> None:
    train(tmp_path / "child", HIGH, "steps=20", child(parent, replay=0.5), publish_worse="a test")
    train(tmp_path / "grandchild", "data.only=[0,9]", "steps=20", child(tmp_path / "child"), publish_worse="a test")

    found = newest(parent / "checkpoints")
    assert found
    assert lineage(tmp_path / "child")["parent"] == {
        "path": str(found.path), "step": 100, "sha256": checkpoint_digest(found),
    }  # fmt: skip
    assert [each["only"] for each in lineage(tmp_path / "grandchild")["data"]] == [
        [0, 9], [5, 6, 7, 8, 9], [0, 1, 2, 3, 4],
    ]  # fmt: skip
    sets = {each["sha256"] for each in lineage(tmp_path / "grandchild")["data"]}
    assert len(sets) == 3 and sets >= {each["sha256"] for each in lineage(parent)["data"]}
    known, *_ = (line for line in read_metrics(tmp_path / "child") if line.get("event") == "evaluated")
    assert known["data"] == "digits 5, 6, 7, 8, 9"
    assert lineage(tmp_path / "child")["scores"][1]["parent"]["accuracy"] > 0.9, "as its parent began"


def test_a_stop_changes_nothing(parent: Path, tmp_path: Path) -> None:
    changes = (HIGH, "steps=40", child(parent, replay=0.25, evaluate_every_steps=10, patience=3, may_lose=0.9))
    train(tmp_path / "whole", *changes)
    train(tmp_path / "parts", *changes, stop_at=25)
    train(tmp_path / "parts", *changes)

    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert lineage(tmp_path / "whole")["scores"] == lineage(tmp_path / "parts")["scores"]


def test_it_stops_when_nothing_gets_better_and_keeps_the_best(parent: Path, tmp_path: Path) -> None:
    changes = (LOW, "steps=200", "optimizer.learning_rate=0.2", "optimizer.kind=sgd", "optimizer.momentum=0.99")
    tuning = child(parent, evaluate_every_steps=1, patience=4, may_lose=0.9)
    train(tmp_path / "early", *changes, tuning)
    best, last = lineage(tmp_path / "early")["best_step"], lineage(tmp_path / "early")["step"]
    assert last == best + 4 < 200

    train(tmp_path / "best", *changes, tuning, stop_at=best)
    assert_same(weights(tmp_path / "best"), weights(tmp_path / "early"))
    train(tmp_path / "early", *changes, tuning)
    assert lineage(tmp_path / "early")["step"] == last, "what has ended stays ended"


def refused(out: Path, *changes: str) -> str:
    with pytest.raises(UserError) as error:
        train(out, *changes)
    assert not (out / "metrics.jsonl").exists()
    return str(error.value)


def test_a_parent_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, child(tmp_path / "gone")) == (
        f"fine_tuning.parent: {tmp_path / 'gone'} does not exist; a checkpoint on every host. "
        "Name the directory of a run or of one of its checkpoints."
    )
    assert f"{tmp_path} has no checkpoint; a checkpoint on every host." in refused(tmp_path / "out", child(tmp_path))
    assert "models:/digits@best cannot be fetched: MLFLOW_TRACKING_URI is not set" in refused(
        tmp_path, 'fine_tuning={"parent": "models:/digits@best"}'
    )


def test_old_texts_of_another_length_are_refused_with_the_length(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a hospital has wards and beds; " * 300)
    text = (f"data.path={tmp_path / 'text'}", "data.held_out=0.1", "steps=2", "global_batch=4")
    given = config("deepseek-v3-tiny", *text, "data.sequence_length=32")
    train_whole(given, tmp_path / "parent", {})
    with pytest.raises(UserError) as error:
        longer = (*text, "data.sequence_length=48", child(tmp_path / "parent", replay=0.5))
        train_whole(config("deepseek-v3-tiny", *longer), tmp_path / "child", {})
    assert "Set data.sequence_length=32, or name the old data with the new length as fine_tuning.old" in str(
        error.value
    )


def test_a_parent_of_another_shape_is_refused(parent: Path, tmp_path: Path) -> None:
    assert "shape 16, as in the model of this run" in refused(tmp_path, child(parent), "model.channels=16")


def test_without_held_out_rows_the_check_is_refused(parent: Path, tmp_path: Path) -> None:
    assert refused(tmp_path, child(parent), HIGH, "data.held_out=0").startswith(
        "data: digits 5, 6, 7, 8, 9 has no held-out examples; parent and child are compared"
    )


def test_a_replay_of_nothing_is_refused(parent: Path, tmp_path: Path) -> None:
    message = refused(tmp_path, child(parent, replay=0.01))
    assert "fine_tuning.replay 0.01 takes 0 of 32 examples, which leaves no mix" in message


def test_worse_than_its_parent_is_status_1(parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("steps=12", "optimizer.kind=sgd", "optimizer.learning_rate=0.3", HIGH, child(parent))
    given = [argument for change in (*QUICK, *changes) for argument in ("--set", change)]
    assert main(["digits", "--out", str(tmp_path), *given]) == 1
    assert "is not published" in capsys.readouterr().err
