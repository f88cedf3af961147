"""A training that reports to an MLflow server: all records arrive, and a server that is away changes nothing."""

from pathlib import Path

import pytest

from tests.support.mlflow_stub import Stub
from tests.support.training_runs import QUICK, assert_same, read_metrics, weights
from workloads.training.__main__ import main

GIVEN = [argument for change in QUICK for argument in ("--set", change)]


def train(out: Path, *arguments: str) -> int:
    return main(["digits", "--out", str(out), *GIVEN, *arguments])


def test_what_a_run_reports_arrives_and_a_server_that_is_away_changes_no_weight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Stub() as stub:
        assert train(tmp_path / "tracked", "--tracking", stub.url) == 0
        lines = [line for line in read_metrics(tmp_path / "tracked") if "loss" in line]
        assert [(key, step) for key, _, step in stub.metrics() if key == "loss"] == [
            ("loss", line["step"]) for line in lines
        ]
        assert stub.statuses() == ["RUNNING", "FINISHED"]
        [made] = [body for what, body in stub.posted if what == "runs/create"]
        tags = {tag["key"].removeprefix("rackwright."): tag["value"] for tag in made["tags"]}
        by_hand = {"declaration": "none", "fleet": "none", "hosts": "none", "lock": "none"}
        assert {"code", "data", "parent", *by_hand} == tags.keys()
        assert tags | by_hand == tags
        gone = stub.url
    assert train(tmp_path / "untracked", "--tracking", gone, "--register", "digits") == 0

    output = capsys.readouterr().out
    assert "The run continues" in output and "were not sent to" in output
    assert "is registered" not in output
    assert_same(weights(tmp_path / "tracked"), weights(tmp_path / "untracked"))


def test_what_cannot_be_an_address_is_refused_before_the_first_step(tmp_path: Path) -> None:
    assert train(tmp_path, "--tracking", "sqlite:///x") == 2
    assert train(tmp_path, "--register", "digits") == 2
    assert not (tmp_path / "metrics.jsonl").exists()
