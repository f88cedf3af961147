"""Questions with choices for a fine-tuned model and its parent: the figures are those of their exports."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.sharded_memory import make_model
from tests.support.training_runs import config
from workloads.errors import UserError
from workloads.evaluation.data import read
from workloads.evaluation.trained import compare, main
from workloads.export.__main__ import export
from workloads.export.trained import load_parent
from workloads.quantize.language_model.measure import ModelMeter
from workloads.tracking.directories import load_directory_lineage
from workloads.training.run import train

QUICK = (
    "global_batch=4", "accumulate=1", "report_every_steps=20", "saving.every_steps=40", "schedule.kind=constant",
    "optimizer.learning_rate=0.02", "device=cpu",
)  # fmt: skip
OLD, NEW = "the sky is blue. ", "the sky is pink. "


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run, with its parent's beside it: adapters that learn one text, then another one."""
    directory = tmp_path_factory.mktemp("tuned")
    make_model(directory / "base", layers=1)
    model = {"kind": "hugging-face", "path": str(directory / "base"), "lora": {"rank": 8}}
    for name, text, more in (
        ("parent", OLD, ()),
        ("run", NEW, (f"fine_tuning={json.dumps({'parent': str(directory / 'parent'), 'replay': 0})}",)),
    ):
        (directory / f"{name}.txt").write_text(text * 400)
        data = {"kind": "text", "path": str(directory / f"{name}.txt"), "sequence_length": 32, "held_out": 0.1}
        changes = (f"model={json.dumps(model)}", f"data={json.dumps(data)}", *more)
        train(config("lora", "steps=60", *changes, *QUICK), directory / name, {}, publish_worse="a test")
    return directory


@pytest.fixture(scope="module")
def exam(tuned: Path) -> Path:
    """Return questions that the new model has right, and the old one wrong, beside some that neither learned."""
    path = tuned / "exam.jsonl"
    rows = [{"question": "the sky is", "choices": [" blue", " pink"], "answer": 1}] * 6
    rows += [
        {"question": f"the number {n} is", "choices": [" even", " odd", " zero"], "answer": n % 2} for n in range(9)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_the_figures_are_those_of_the_exported_models(tuned: Path, exam: Path, tmp_path: Path) -> None:
    assert (
        main([str(tuned / "run"), "--choices", str(exam), "--out", str(tmp_path / "out.json"), "--device", "cpu"]) == 0
    )
    figures = json.loads((tmp_path / "out.json").read_text())

    meter = ModelMeter([read("choices", exam)], [], 2048, "cpu")
    for key, run in (("before", "parent"), ("after", "run")):
        export(tuned / run, tmp_path / run, merge_adapters=True)
        assert figures[key] == meter.measure(tmp_path / run)
        kinds = ["run"] if run == "parent" else ["run", "run"]
        assert [each.kind for each in load_directory_lineage(tuned / run).versions] == kinds
        assert [each.kind for each in load_directory_lineage(tmp_path / run).versions] == ["export", *kinds]
    [before], [after] = figures["before"], figures["after"]
    assert (after["kind"], after["rows"], after["data"]) == ("choices", 15, "exam.jsonl")
    assert after["accuracy"] > before["accuracy"], "the new model has learned the color"


def test_a_parent_is_found_where_no_lineage_is_beside_it(tuned: Path, tmp_path: Path) -> None:
    """As in the cache of registered models."""
    record = json.loads((tuned / "run" / "lineage.json").read_text())
    there = tmp_path / "cache" / Path(record["parent"]["path"]).name
    shutil.copytree(record["parent"]["path"], there)
    record["parent"]["path"] = str(there)
    run = tmp_path / "run"
    run.mkdir()
    (run / "lineage.json").write_text(json.dumps(record))
    assert load_parent(run).lineage["checkpoint"] == record["parent"]["sha256"]

    record["parent"]["sha256"] = "0" * 64
    (run / "lineage.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="it is another checkpoint than at the start of the run"):
        load_parent(run)


def test_a_run_without_a_parent_is_refused(tuned: Path, exam: Path) -> None:
    with pytest.raises(UserError, match="the run has no parent; a run that started from a checkpoint"):
        compare(tuned / "parent", read("choices", exam), 2048, "cpu")
    with pytest.raises(UserError, match="has no readable lineage"):
        compare(tuned, read("choices", exam), 2048, "cpu")
