"""The JSON of commands whose other tests read their functions: what they print is what their types say."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli import project as projects
from rackwright.cli import registered, twin
from rackwright.cli.app import app
from rackwright.iteration import report as iteration_report
from rackwright.status import runs, servers
from rackwright.twin.twin import MachineStatus
from tests.support.server_stack import project, publish
from workloads import tracking
from workloads.tracking import Lineage
from workloads.tracking.registry import Version

__all__ = ["project"]


def printed(*arguments: str, status: int = 0) -> list[dict[str, Any]]:
    """Return the documents that `rackwright ARGUMENTS --json` prints, each of one or more lines."""
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == status, done.output
    decoder, text, documents = json.JSONDecoder(), done.stdout, []
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].lstrip()
    return documents


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(stack: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr(projects, "connect_hosts", connect)


def test_the_machines_of_a_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [MachineStatus("a", "vm", True, False, 2222, 7, ("S1",), False)]
    monkeypatch.setattr(projects, "stack", lambda name: SimpleNamespace(name=name, twin="lab"))
    monkeypatch.setattr(twin, "build", lambda stack: SimpleNamespace(status=lambda: machines))

    [report] = printed("twin", "status", "lab")

    assert (report["twin"], report["machines"][0]["pulled"], report["machines"][0]["process"]) == ("lab", ["S1"], 7)


def test_a_promoted_model_and_the_one_before(project: Path) -> None:
    (project / "Pulumi.yaml").touch()
    version = publish(project / "models/next", b"two", 0.99)

    [report] = printed("server", "promote", "serving", "digits", "models/next")

    assert (report["server"], report["model"]["path"], report["model"]["sha256"]) == ("digits", "models/next", None)
    assert report["previous"] not in (None, version)


def test_a_model_that_goes_back(project: Path, hosts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "Pulumi.yaml").touch()
    report = servers.ServerReport("digits", "b" * 12, {"ember": {"previous": "a" * 12, "models": ["a" * 12]}})
    monkeypatch.setattr(servers, "observe", lambda *arguments: report)

    [document] = printed("server", "rollback", "serving", "digits")

    assert (document["model"]["version"], document["previous"]) == ("a" * 12, "b" * 12)


def test_fetched_models(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "Pulumi.yaml").touch()
    monkeypatch.setattr(registered, "servers_with_registered_model", lambda stack, server: ["digits"])
    fetched = {"server": "digits", "version": "a" * 12, "directory": "/models"}
    monkeypatch.setattr(registered, "fetch", lambda stack, server, url: fetched)

    assert printed("server", "fetch", "serving") == [{"schema_version": 1, "models": [fetched]}]


def test_each_line_of_a_log_has_its_host(project: Path, hosts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "Pulumi.yaml").touch()

    def stream(hosts: object, stack: object, server: str, lines: int, follow: bool, on_line: Any) -> None:
        on_line("ember", "ready")
        on_line("cinder", '"quoted"\t')

    monkeypatch.setattr(servers, "stream_logs", stream)
    report = printed("server", "logs", "serving", "digits")
    assert [(each["host"], each["line"]) for each in report] == [("ember", "ready"), ("cinder", '"quoted"\t')]

    launcher = SimpleNamespace(source="ember")
    monkeypatch.setattr(runs, "find_resources", lambda stack, run: (launcher,))
    monkeypatch.setattr(runs, "stream_logs", lambda *arguments: arguments[-1]("[0] step 1"))
    assert printed("run", "logs", "serving", "digits") == [{"schema_version": 1, "host": "ember", "line": "[0] step 1"}]


@pytest.mark.parametrize("tags", [{}, {"lock": "10c4", "step": "9"}, {"precision": "int8", "gate": "passed"}])
def test_the_origin_of_a_model(tags: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    version = Version("digits", "3", "run", "mlflow-artifacts:/1", ("champion",), 1, tags)
    monkeypatch.setattr(tracking, "connect", lambda url, environment: None)
    monkeypatch.setattr(tracking, "load_lineage", lambda server, model: Lineage((version,)))

    [report] = printed("lineage", "digits", "--tracking", "https://tracking.example", status=3)

    assert [(each["name"], each["aliases"]) for each in report["versions"]] == [("digits", ["champion"])]
    assert report["missing"]


def test_a_perplexity_that_is_no_number_of_json_is_null() -> None:
    assert iteration_report._finite({"rows": 3, "perplexity_before": 2.5, "perplexity_tuned": math.inf}) == {
        "rows": 3,
        "perplexity_before": 2.5,
        "perplexity_tuned": None,
    }
