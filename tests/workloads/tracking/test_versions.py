"""Quantised models at a real MLflow server: registered as children, fetched as they were, called by an alias."""

import json
from pathlib import Path

import pytest

from tests.support.mlflow_server import ServedModel
from tests.workloads.tracking.test_mlflow import DECLARED, command, tracked, trained
from workloads.errors import UserError
from workloads.quantize import versions
from workloads.serving.model import Model, Tensor, publish
from workloads.tracking import load_lineage, register
from workloads.tracking.registry import find_by_checkpoint
from workloads.tracking.server import TrackingRefused

FOUND = {"accuracy_kept": 0.9972, "agreement": 0.9944, "cosine": 0.9999, "accuracy": 0.97, "rows": 359}
X = Tensor(name="x", datatype="FP32", shape=(-1, 8, 8))


def published(out: Path, parent: str, version: str = "", passed: bool = True) -> Model:
    """Write what `python -m workloads.quantize` does, with bytes that are nobody's weights."""
    out.parent.mkdir(parents=True, exist_ok=True)
    (weights := out.parent / "weights").write_bytes(parent.encode())
    report = out.with_name(f"{out.name}.report")
    report.mkdir()
    (report / "report.json").write_text('{"gate": "as it was"}')
    wanted = {"accuracy_kept": 0.98, "agreement": 0.5, "cosine": None}
    content = {
        "target": "t4", "precision": "int8", "code": "c0de", "machine": "a processor", "data": {"sha256": "da7a"},
        "gate": {"passed": passed, "wanted": wanted, "found": FOUND, "loosened": ["agreement", "cosine"],
                 "publish_slower": "it fits"},
        "parent": {"sha256": parent, "version": version},
    }  # fmt: skip
    return publish(out, {"model.onnx": weights}, "digits", (X,), (X,), content)


def registered(served: ServedModel, directory: Path, name: str) -> str:
    """Return the digest of a training's checkpoint that was registered as *name*."""
    run = trained(directory, declared=DECLARED)
    tracked(served, run.out)
    register(served.as_("tina"), run.out, name)
    return run.digest


def entered(served: ServedModel, out: Path, name: str, who: str = "tina") -> versions.Version:
    return versions.register(served.as_(who), out, out.with_name(f"{out.name}.report"), name)


def test_a_quantised_model_is_a_child_of_the_version_that_it_came_from(served, tmp_path):
    digest = registered(served, tmp_path / "run", "whole")
    published(tmp_path / "q" / "model", digest, "whole/1")
    version = entered(served, tmp_path / "q" / "model", "eighths")
    assert entered(served, tmp_path / "q" / "model", "eighths") == version

    found = load_lineage(served.as_("axel"), "eighths")
    assert [str(each) for each in found.versions] == ["eighths/1", "whole/1"]
    assert found.missing == ()
    assert found.as_data()["versions"][0]["gate"] == (
        "accuracy kept 99.72% (at least 98.00%), agreement 99.44% (at least 50.00%), cosine 99.99% (not required), "
        "on 359 rows; loosened: agreement, cosine; slower because: it fits"
    )
    run = served.as_("axel").get("runs/get", run_id=version.run)["run"]
    assert {each["key"]: each["value"] for each in run["data"]["metrics"]}["accuracy_kept"] == 0.9972
    served.as_("axel").get_file(
        f"{run['info']['experiment_id']}/{version.run}/artifacts/report/report.json", tmp_path / "r", 1000
    )
    assert (tmp_path / "r").read_text() == '{"gate": "as it was"}'


def test_of_several_names_of_a_checkpoint_the_one_that_was_asked_for_is_the_parent(served, tmp_path):
    digest = registered(served, tmp_path / "run", "one-name")
    register(served.as_("tina"), tmp_path / "run", "other-name")
    published(tmp_path / "q" / "model", digest, "other-name/1")
    entered(served, tmp_path / "q" / "model", "several")

    assert str(load_lineage(served.as_("axel"), "several").versions[1]) == "other-name/1"


def test_what_was_registered_comes_back_as_it_was_and_not_otherwise(served, tmp_path):
    out = tmp_path / "q" / "model"
    published(out, "of nobody")
    version = entered(served, out, "returned")

    back, found = versions.fetch(served.as_("gate"), "models:/returned/1", tmp_path / "back")
    assert (found, {path.name: path.read_bytes() for path in back.iterdir()}) == (
        version,
        {path.name: path.read_bytes() for path in out.iterdir()},
    )

    [stored] = served.directory.glob(f"var/lib/mlflow/artifacts/*/{version.run}/artifacts/model/model.onnx")
    stored.write_bytes(stored.read_bytes()[::-1])
    with pytest.raises(UserError, match=r"model\.onnx has the sha256"):
        versions.fetch(served.as_("gate"), "returned", tmp_path / "again")


def test_a_checkpoint_is_fetched_by_its_version_too(served, tmp_path):
    registered(served, tmp_path / "run", "as-before")
    back, found = versions.fetch(served.as_("gate"), "models:/as-before", tmp_path / "back")

    assert (str(found), back.name) == ("as-before/1", "step-0000000003")


def test_what_the_gate_refused_is_no_version(served, tmp_path):
    published(tmp_path / "model", "of nobody", passed=False)
    with pytest.raises(TrackingRefused, match="the model has not passed its gate"):
        entered(served, tmp_path / "model", "refused")
    with pytest.raises(TrackingRefused, match="has no version "):
        load_lineage(served.as_("axel"), "refused")


def test_an_alias_is_given_by_who_may(served, tmp_path):
    digest = registered(served, tmp_path / "run", "named")
    published(tmp_path / "q" / "model", digest, "named/1")
    version = entered(served, tmp_path / "q" / "model", "named-int8")

    with pytest.raises(TrackingRefused, match="tina is trainer here, who may not do that"):
        versions.set_alias(served.as_("tina"), version, "champion")
    versions.set_alias(served.as_("rita"), version, "champion")

    done = command(served, "named-int8@champion")
    assert done.exit_code == 0, done.output
    for text in (
        "named-int8/1 @champion",
        "precision    int8",
        "machine      a processor",
        "named/1",
        "alpha=aaaaaaaa",
    ):
        assert text in done.output
    assert json.loads(command(served, "named-int8", "--json").stdout)["missing"] == []


def test_a_file_that_would_lie_elsewhere_is_not_brought(served, tmp_path, monkeypatch):
    published(tmp_path / "model", "of nobody")
    version = entered(served, tmp_path / "model", "elsewhere")
    fetch_manifest = versions.registry.fetch_manifest

    def fetch_another(*arguments):
        target = fetch_manifest(*arguments)
        (target / "model.json").write_text(
            (target / "model.json").read_text().replace('"model.onnx"', '"../model.onnx"')
        )
        return target

    monkeypatch.setattr(versions.registry, "fetch_manifest", fetch_another)
    assert find_by_checkpoint(served.as_("gate"), version.tags["checkpoint"], "elsewhere") == version
    with pytest.raises(UserError, match=r"'\.\./model\.onnx' names no file beside model\.json"):
        versions.fetch(served.as_("gate"), "elsewhere", tmp_path / "back" / "deep")
    assert not (tmp_path / "back" / "model.onnx").exists()
