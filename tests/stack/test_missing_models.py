"""`check` names each declared model that is not on this computer, with the command that makes it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.stack import load_stack
from rackwright.stack.missing_models import missing_models
from tests.support.server_stack import declare_environments, project, publish

__all__ = ["project"]


def notices(project: Path, model: str) -> list[str]:
    fleet = project / "stacks/serving.yaml"
    fleet.write_text(fleet.read_text().replace("{path: models/digits}", model))
    return [*missing_models(load_stack("serving", project))]


def test_a_model_that_was_never_made_is_named_with_the_commands(project: Path) -> None:
    """The example of the factory declares a model that its reader has to train first."""
    [notice] = notices(project, "{path: models/parts, version: 0123456789ab}")

    assert notice.startswith("servers.digits: models/parts has no model, and the fleet declares version 0123456789ab: ")
    assert "`$(rackwright toolchain workloads) -m workloads.quantize RUN … --out models/parts`" in notice
    assert notice.endswith("then `rackwright server promote serving digits models/parts`")


def test_another_version_in_the_directory_is_named(project: Path) -> None:
    version = publish(project / "models/digits", b"two", 0.99)

    [notice] = notices(project, "{path: models/digits, version: 0123456789ab}")

    assert f"models/digits has version {version}, and the fleet declares 0123456789ab" in notice
    assert "`rackwright server promote serving digits models/digits`" in notice


def test_a_registered_model_that_was_not_fetched_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))
    text = f"{{registered: digits@champion, version: 0123456789ab, sha256: {'ab' * 32}}}"

    [notice] = notices(project, text)

    assert notice.startswith("servers.digits: the registered model is not on this computer")
    assert notice.endswith("Run `rackwright server fetch serving digits`")


def test_models_that_are_here_or_on_a_tier_have_no_notice(project: Path) -> None:
    version = publish(project / "models/digits", b"two", 0.99)

    assert notices(project, f"{{path: models/digits, version: {version}}}") == []


def test_check_prints_the_notices(project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: rackwright\n")
    assert notices(project, "{path: models/parts, version: 0123456789ab}")
    declare_environments(project)

    done = CliRunner().invoke(app, ["check", "serving"])
    assert done.exit_code == 0 and "note: servers.digits: models/parts has no model" in done.output
    printed = json.loads(CliRunner().invoke(app, ["check", "serving", "--json"]).stdout)
    assert any("models/parts has no model" in each for each in printed["notices"])
