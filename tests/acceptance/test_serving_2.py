"""Line 2: a model that loses too much is refused, one that keeps its accuracy is published, and no row judges twice."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rackwright.toolchain import workloads
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.mlflow_server import ServedModel
from tests.support.workloads import module, python, run_tests
from workloads.serving.model import read, verify

WANTED_KEPT = 0.98
EMBEDDING = ("task=embed", "gate.agreement=0.8", "margin=0.1", "repeats=10")
"""Which of some hundred texts is the nearest is decided by less than 8 bits tell apart."""


@line("serving", 2, part="digits")
def test_a_model_below_its_gate_is_not_published(log: Log) -> str:
    """The digits, trained here: in 8 bits published, with a gate that nothing passes refused, a loosened one seen."""
    directory = log.empty_directory()
    log("training the digits")
    module(log, "digits", "--out", str(directory / "training"))
    model = directory / "training"
    _quantize(log, model, "digits", directory / "published", 0)
    report = _report(directory, "published")
    found = report["gate"]["found"]
    need(found["accuracy_kept"] >= WANTED_KEPT, f"published with {found['accuracy_kept']:.2%} of the accuracy kept")
    _quantize(log, model, "digits", directory / "refused", 1, "gate.cosine=1.0")
    need(not (directory / "refused").exists(), "what was refused was published")
    need(_report(directory, "refused")["costs"], "the report does not say what layers cost")
    _quantize(log, model, "digits", directory / "loosened", 0, "gate.agreement=0.5")
    lineage = json.loads((directory / "loosened" / "model.json").read_text())["lineage"]
    need(lineage["gate"]["loosened"] == ["agreement", "speed"], f"the lineage says {lineage['gate']}")
    before, after = report["before"], report["after"]
    smaller = before["weight_bytes"] / after["weight_bytes"]
    faster = before["milliseconds"]["1"] / after["milliseconds"]["1"]
    return (
        f"kept {found['accuracy_kept']:.2%} (at least {WANTED_KEPT:.0%}), agreement {found['agreement']:.2%} on "
        f"{found['rows']} rows held out; weights {smaller:.2f} times smaller, batch 1 {faster:.2f} times faster on "
        f"{report['machine']}"
    )


@line("serving", 2, part="minilm")
def test_the_naive_minilm_is_refused_and_the_searched_one_published(log: Log) -> str:
    """all-MiniLM-L6-v2 finds the module that a text of Python's documentation is from, by the nearest other text."""
    directory = log.empty_directory()
    log("tokens of Python's documentation")
    made = log.run([python(log), "-m", "tests.support.models.minilm", str(directory / "rows.npz")])
    need(made.returncode == 0, f"no model or no rows: {made.stderr.strip().splitlines()[-1:]}")
    model, rows = Path(made.stdout.splitlines()[-1]), str(directory / "rows.npz")
    _quantize(log, model, rows, directory / "naive", 1, *EMBEDDING, "search=false")
    _quantize(log, model, rows, directory / "searched", 0, *EMBEDDING)
    need(not (directory / "naive").exists(), "what was refused was published")
    naive, report = _report(directory, "naive"), _report(directory, "searched")
    found, lineage = report["gate"]["found"], json.loads((directory / "searched" / "model.json").read_text())["lineage"]
    layers, left_out = len(report["costs"]), len(lineage["left_out"])
    need(0 < left_out < layers / 2, f"{left_out} of {layers} layers were left out")
    need(found["accuracy_kept"] >= WANTED_KEPT, f"published with {found['accuracy_kept']:.2%} of the accuracy kept")
    need((directory / "searched.report" / "report.svg").stat().st_size > 1000, "the report has no picture")
    before, after = report["before"], report["after"]
    faster = before["milliseconds"]["32"] / after["milliseconds"]["32"]
    return (
        f"all {layers} layers in 8 bits refused: {'; '.join(naive['shortfalls'])}; with {left_out} left out published: "
        f"kept {found['accuracy_kept']:.2%}, cosine {found['cosine']:.2%}, agreement {found['agreement']:.2%} on "
        f"{found['rows']} rows held out, batch 32 {faster:.2f} times faster on {report['machine']}"
    )


@line("serving", 2, part="disjoint")
def test_no_calibration_row_judges_the_model(log: Log) -> str:
    return run_tests(log, "tests/workloads/quantize/test_samples.py")


@line("serving", 2, part="lineage")
def test_a_quantized_model_is_a_child_in_the_registry(log: Log) -> str:
    """The digits are quantised by their alias, and registered; the lineage leads back, and what is refused has none.

    A server names them by that alias; what was promoted is fetched again by another computer, and is declared there.
    """
    directory = log.empty_directory()
    log("starting an MLflow server as the role mlflow does")
    with ServedModel(directory / "mlflow", workloads.tracking(log).python) as served:
        own_places = {"HOME": str(directory), "XDG_CACHE_HOME": str(directory / "cache")}
        admin = {**os.environ, "OMP_NUM_THREADS": "1", **own_places, **served.environment("admin")}

        def run(status: int, *argv: str, cwd: Path = ROOT) -> str:
            done = log.run([*argv, "--tracking", served.url], cwd, admin, timeout=900)
            output = (done.stderr or done.stdout).strip().splitlines()[-1:]
            need(done.returncode == status, f"{argv[1:4]} ended with {done.returncode}, wanted {status}: {output}")
            return done.stdout

        log("training the digits")
        of, out = (python(log), "-m"), str(directory / "training")
        run(0, *of, "workloads.training", "digits", "--out", out, "--register", "digits")
        served.as_("rita").post("registered-models/alias", name="digits", alias="champion", version="1")
        log("quantising models:/digits@champion")
        quantize = (*of, "workloads.quantize", "models:/digits@champion", "--data", "digits", "--target", "t4")
        named = ("--register", "digits-int8", "--alias", "champion")
        run(0, *quantize, "--out", str(directory / "int8"), *named)
        refused = ("--register", "refused", "--set", "gate.cosine=1.0")
        run(1, *quantize, "--out", str(directory / "refused"), *refused)

        lineage = (str(ROOT / ".venv/bin/rackwright"), "lineage")
        run(2, *lineage, "refused")
        report = json.loads(run(0, *lineage, "digits-int8@champion", "--json"))
        chain = [f"{each['name']}/{each['version']}" for each in report["versions"]]
        need(chain == ["digits-int8/1", "digits/1"], f"the lineage is {chain}")
        need(not report["missing"], f"the lineage lacks {report['missing']}")
        declared = {key: report["versions"][1][key] for key in ("fleet", "declaration", "lock", "hosts")}
        need(
            {*declared.values()} == {"none"}, f"a training by hand has no declaration, and the lineage says {declared}"
        )
        log("naming a server's model digits-int8@champion")
        project = _project(directory / "project", "{registered: digits-int8@champion}")
        server = (str(ROOT / ".venv/bin/rackwright"), "server")
        run(0, *server, "promote", "serving", "digits", cwd=project)
        shutil.rmtree(directory / "cache" / "rackwright" / "models")
        [fetched] = json.loads(run(0, *server, "fetch", "serving", "--json", cwd=project))["models"]
        made = read(directory / "int8")
        need(fetched["version"] == made.version, f"{fetched} was promoted, and {made.version} is the champion")
        verify(Path(fetched["directory"]), made)
        checked = log.run([server[0], "check", "serving"], project, admin)
        need(checked.returncode == 0, f"what was promoted is not declared: {checked.stderr.strip()}")
        own, parent = report["versions"]
        return (
            f"{' from '.join(chain)}: {own['gate']}; on {own['machine']}, from data {parent['data'][:12]}…; "
            f"a server has @champion as version {made.version}"
        )


def _project(directory: Path, model: str) -> Path:
    """Return a project with the example's servers, of which `digits` has that *model*."""
    shutil.copytree(ROOT / "stacks", directory / "stacks", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (directory / "Pulumi.yaml").touch()
    fleet = directory / "stacks" / "serving.yaml"
    fleet.write_text(fleet.read_text().replace("{path: .rackwright/models/digits}", model))
    return directory


def _quantize(log: Log, model: Path, data: str, out: Path, status: int, *changes: str) -> None:
    given = [argument for change in changes for argument in ("--set", change)]
    argv = [python(log), "-m", "workloads.quantize", str(model), "--data", data, "--target", "cpu", "--out", str(out)]
    given += ["--publish-slower", "the accuracy is judged"]
    log(f"quantising: {out.name}")
    done = log.run([*argv, *given], env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode != status:
        last = done.stderr.strip().splitlines()[-1:]
        pytest.fail(f"{out.name} ended with {done.returncode}, wanted {status}: {last}", pytrace=False)


def _report(directory: Path, name: str) -> Any:
    return json.loads((directory / f"{name}.report" / "report.json").read_text())
