"""The lineage of directories: runs, checkpoints, exports and published models, as far as files name it."""

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from tests.support import sample_checkpoints
from tests.support.sources import ROOT
from workloads.checkpoint import layout
from workloads.errors import UserError
from workloads.serving import model as model_directory
from workloads.serving.model import Tensor
from workloads.tracking.directories import load_directory_lineage
from workloads.tracking.server import URL

DECLARED = {"fleet": "lab", "declaration": "dec1a", "lock": "10c4", "hosts": {"alpha": "aa", "beta": "bb"}}
DECLARED |= {"code": "c0de"}
FOUND = {"accuracy_kept": 0.99, "rows": 40}
GATE = {"passed": True, "found": FOUND, "wanted": {"accuracy_kept": 0.98}, "loosened": []}


def run(out: Path, parent: Path | None = None, declared: dict[str, Any] | None = None, step: int = 3) -> Path:
    """Write a finished run, and return the directory of its checkpoint; those of one step are equal in all runs."""
    sample_checkpoints.make(out / "checkpoints", step)
    if declared is not None:
        (out / "provenance.json").write_text(json.dumps(declared))
    made = checkpoint(out, step)
    record = {
        "name": out.name, "declared": declared is not None, "data": [{"kind": "text", "sha256": f"da7a-{out.name}"}],
        "parent": parent and {"path": str(parent), "step": 3, "sha256": digest(parent)},
        "step": step, "checkpoint": digest(made),
    }  # fmt: skip
    (out / "lineage.json").write_text(json.dumps(record))
    return made


def checkpoint(out: Path, step: int) -> Path:
    return out / "checkpoints" / layout.step_name(step)


def digest(made: Path) -> str:
    return sha256((made / "manifest.json").read_bytes()).hexdigest()


def record(made: Path, **more: Any) -> dict[str, Any]:
    """Return the record of a training in the lineage of its export."""
    own = json.loads((made.parent.parent / "lineage.json").read_text())
    return {"run": own["name"], **{key: own[key] for key in ("step", "checkpoint", "parent", "data")}, "dtype": "bf16",
            "config": {"fine_tuning": None}, **more}  # fmt: skip


def publish(directory: Path, lineage: dict[str, Any]) -> str:
    directory.parent.mkdir(parents=True, exist_ok=True)
    weights = directory.parent / "weights"
    weights.write_bytes(b"weights")
    tensor = Tensor(name="x", datatype="FP32", shape=(-1, 8, 8))
    return model_directory.publish(directory, {"model.onnx": weights}, "digits", (tensor,), (tensor,), lineage).version


def sources(directory: Path) -> list[str]:
    return [entry.source for entry in load_directory_lineage(directory).versions]  # type: ignore[attr-defined]


class TestRuns:
    def test_parents_are_followed_by_path_while_the_digest_is_theirs(self, tmp_path: Path) -> None:
        first = run(tmp_path / "first", declared=DECLARED)
        second = run(tmp_path / "second", first, DECLARED, step=4)
        run(tmp_path / "third", second, DECLARED, step=5)

        chain = load_directory_lineage(tmp_path / "third")
        assert chain.missing == ()
        assert sources(tmp_path / "third") == [str(tmp_path / "third"), str(second), str(first)]
        newest, *_, oldest = chain.as_data()["versions"]
        expected = {
            "name": "third", "lock": "10c4", "hosts": "alpha=aa beta=bb", "code": "c0de", "data": "da7a-third",
            "parent": digest(second), "checkpoint": digest(checkpoint(tmp_path / "third", 5)), "step": "5",
        }  # fmt: skip
        assert {key: newest[key] for key in expected} == expected
        assert (oldest["parent"], oldest["aliases"], "created_ms" in oldest) == ("none", [], False)

    def test_a_parent_that_is_gone_or_another_one_is_named(self, tmp_path: Path) -> None:
        first = run(tmp_path / "first", declared=DECLARED)
        run(tmp_path / "second", first, DECLARED, step=4)
        lost = f"checkpoint {digest(first)}; {first} does not have it"
        (first / "manifest.json").write_text((first / "manifest.json").read_text() + " ")
        assert load_directory_lineage(tmp_path / "second").missing == (lost,)
        shutil.rmtree(tmp_path / "first")
        assert load_directory_lineage(tmp_path / "second").missing == (lost,)
        assert sources(tmp_path / "second") == [str(tmp_path / "second")]

    def test_the_code_of_this_program_is_not_that_of_a_run(self, tmp_path: Path) -> None:
        run(tmp_path / "run")
        chain = load_directory_lineage(tmp_path / "run")
        assert chain.missing == (f"{tmp_path}/run: code",)
        assert chain.versions[0].tags["fleet"] == "none", "it was not declared"

    def test_a_checkpoint_has_the_lineage_of_its_run(self, tmp_path: Path) -> None:
        made = run(tmp_path / "run", declared=DECLARED)
        [entry] = load_directory_lineage(made).versions
        assert (entry.tags["checkpoint"], entry.tags["step"], entry.tags["lock"]) == (digest(made), "3", "10c4")
        shutil.copytree(made, tmp_path / "cache" / made.name)
        run(tmp_path / "child", tmp_path / "cache" / made.name, DECLARED, step=4)
        missing = load_directory_lineage(tmp_path / "child").missing
        assert f"{tmp_path}/cache/{made.name}: lock" in missing, "a fetched checkpoint has no lineage beside it"

    def test_a_run_that_names_itself_as_its_parent_ends_the_chain(self, tmp_path: Path) -> None:
        made = run(tmp_path / "run", declared=DECLARED)
        own = json.loads((tmp_path / "run" / "lineage.json").read_text())
        for end in ({}, {"checkpoint": None}):
            content = {**own, "parent": {"path": str(made), "sha256": digest(made)}, **end}
            (tmp_path / "run" / "lineage.json").write_text(json.dumps(content))
            assert len(load_directory_lineage(tmp_path / "run").versions) == 1 + len(end)


class TestExports:
    def test_an_export_goes_on_by_the_parent_of_its_training(self, tmp_path: Path) -> None:
        first = run(tmp_path / "first", declared=DECLARED)
        second = run(tmp_path / "second", first, step=4)
        export = tmp_path / "export"
        export.mkdir()
        (export / "lineage.json").write_text(json.dumps({**record(second), "files": {}}))

        chain = load_directory_lineage(export)
        assert sources(export) == [str(export), "", str(first)], "the training's own path is nowhere"
        own, training, parent = chain.as_data()["versions"]
        assert (own["parent"], own["precision"], own["data"]) == (digest(second), "bf16", "da7a-second")
        assert (training["name"], training["checkpoint"]) == ("second", digest(second))
        assert (training["parent"], parent["lock"]) == (digest(first), "10c4")
        assert chain.missing == tuple(f"run second: {key}" for key in ("fleet", "declaration", "lock", "hosts", "code"))

    def test_a_published_language_model_has_its_quantisation_too(self, tmp_path: Path) -> None:
        made = run(tmp_path / "run")
        gate = {"passed": True, "unmeasured": None, "may_lose": 0.01}
        lineage = {"training": record(made, dtype="int4"), "quantization": {"format": "int4", "gate": gate}}
        version = publish(tmp_path / "model", lineage)
        own, training = load_directory_lineage(tmp_path / "model").as_data()["versions"]
        assert (own["name"], own["version"], own["precision"]) == ("digits", version, "int4")
        assert own["gate"] == "passed, with a loss of at most 0.01"
        assert (training["parent"], training["source"]) == ("none", "")

        lineage["quantization"]["gate"] = {"passed": False, "unmeasured": "too large"}  # type: ignore[index]
        publish(tmp_path / "unmeasured", lineage)
        assert load_directory_lineage(tmp_path / "unmeasured").versions[0].tags["gate"] == "not measured: too large"


class TestPublished:
    def lineage(self, source: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
        entry = {"parent": {"sha256": parent, "version": None}} if parent else {}
        return {"source": source, "target": "cpu", "precision": "int8", "gate": GATE, "code": "c0de", "machine": "m",
                "data": {"name": "digits", "sha256": "da7a"}, **entry}  # fmt: skip

    def test_a_quantised_model_has_its_training(self, tmp_path: Path) -> None:
        training = {"recipe": "digits", "step": 300, "checkpoint": "c4ec", "config": {"fine_tuning": None},
                    "data": [{"kind": "digits"}]}  # fmt: skip
        version = publish(tmp_path / "model", self.lineage({"training": training, "version": "v"}, "c4ec"))
        chain = load_directory_lineage(tmp_path / "model")
        own, trained = chain.as_data()["versions"]
        assert (own["version"], own["target"], own["parent"], own["machine"]) == (version, "cpu", "c4ec", "m")
        assert "accuracy kept 99.00% (at least 98.00%)" in own["gate"]
        assert (trained["name"], trained["step"], trained["parent"]) == ("digits", "300", "none")
        assert "run digits: data" in chain.missing, "its record has no digest of the data"

    def test_a_model_that_was_quantised_twice_or_from_a_file(self, tmp_path: Path) -> None:
        file = {"file": "model.onnx", "sha256": "0"}
        publish(tmp_path / "model", self.lineage(self.lineage(file), "50c4"))
        chain = load_directory_lineage(tmp_path / "model")
        assert [entry.tags.get("parent") for entry in chain.versions] == ["50c4", None]
        assert chain.missing == ("model digits: parent",)


class TestRefused:
    @pytest.mark.parametrize(
        "lineage",
        [
            {"source": {}, "target": "cpu"}, {"source": {}, "target": "cpu", "gate": {"found": 3, "wanted": [1]}},
            {"source": {}, "target": "cpu", "gate": {**GATE, "found": {"rows": 3}}},
        ],
    )  # fmt: skip
    def test_a_published_model_with_another_form(self, tmp_path: Path, lineage: dict[str, Any]) -> None:
        publish(tmp_path / "model", lineage)
        with pytest.raises(UserError, match="its lineage has another form than a published model"):
            load_directory_lineage(tmp_path / "model")

    @pytest.mark.parametrize(
        "lineage",
        [{}, {"training": 3}, {"training": {"config": 3, "data": 3, "parent": 3, "checkpoint": []}},
         {"training": {"data": [{"sha256": {}}], "parent": {"path": "\0", "sha256": {}}, "dtype": True}},
         {"quantization": {"gate": 3}}],
    )  # fmt: skip
    def test_odd_records_are_unknown(self, tmp_path: Path, lineage: dict[str, Any]) -> None:
        publish(tmp_path / "model", lineage)
        assert load_directory_lineage(tmp_path / "model").missing

    @pytest.mark.parametrize("text", ["{", '{"parent": 3}', '{"data": [{}]}', '{"parent": {"path": "x"}}'])
    def test_a_run_with_another_form(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "lineage.json").write_text(text)
        with pytest.raises(UserError, match=r"lineage\.json: "):
            load_directory_lineage(tmp_path)

    def test_more_parents_than_a_chain_can_have(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workloads.tracking.directories.PARENTS_MAX", 1)
        made = run(tmp_path / "a")
        for name, step in (("b", 4), ("c", 5)):
            made = run(tmp_path / name, made, step=step)
        with pytest.raises(UserError, match="the lineage has more than 1 parents"):
            load_directory_lineage(tmp_path / "c")


# --- the command


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["lineage", *arguments], env={URL: ""})


def test_the_command_prints_the_chain_of_a_directory_and_ends_by_what_it_lacks(tmp_path: Path) -> None:
    first = run(tmp_path / "first", declared=DECLARED)
    run(tmp_path / "second", first, DECLARED, step=4)
    done = command(str(tmp_path / "second"))
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == [
        f"run second: {tmp_path}/second", f"run first: {first}"
    ]  # fmt: skip
    assert "  lock         10c4" in lines

    lost = digest(first)
    shutil.rmtree(tmp_path / "first")
    done = command(str(tmp_path / "second"))
    assert done.exit_code == 3
    assert done.output.splitlines()[-1] == f"not found: checkpoint {lost}; {first} does not have it"
    done = command(str(tmp_path / "second"), "--json")
    assert done.exit_code == 3
    assert [each["name"] for each in json.loads(done.stdout)["versions"]] == ["second"]
    assert json.loads(done.stdout)["missing"] == [f"checkpoint {lost}; {first} does not have it"]


def test_a_name_of_both_sorts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "digits", declared=DECLARED)
    monkeypatch.chdir(tmp_path)
    assert command("digits").exit_code == 0
    server = "https://tracking.example:5000"
    done = command("digits", "--tracking", server)
    assert isinstance(done.exception, UserError) and done.exception.exit_status == 2
    assert f"digits is a directory here, and may be a model at {server}" in str(done.exception)
    assert "Write `rackwright lineage ./digits` or `rackwright lineage models:/digits`" in str(done.exception)
    assert command("./digits", "--tracking", server).exit_code == 0


@pytest.mark.parametrize("model", ["nothing", "./nothing", "/nowhere/run", "empty", "a b@c@d"])
def test_a_directory_without_a_lineage_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    error = command(model).exception
    assert isinstance(error, UserError) and error.exit_status == 2
    assert model.removeprefix("./") in str(error) and "orrect the path" in str(error)


def test_it_needs_no_library_of_the_workloads(tmp_path: Path) -> None:
    made = run(tmp_path / "run", declared=DECLARED)
    publish(tmp_path / "model", {"training": record(made)})
    program = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'numpy', 'transformers')); from rackwright.cli import main;"
        "sys.argv[1:] = ['lineage', *sys.argv[1:]]; main()"
    )
    for directory, status in (("run", 0), ("model", 3)):
        argv = [sys.executable, "-c", program, str(tmp_path / directory)]
        environment = {**os.environ, URL: "", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (status, "")
