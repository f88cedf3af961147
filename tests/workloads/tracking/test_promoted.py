"""Servers of models at a real MLflow server: promoted by a name, fetched by content, with the target of the name."""

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from rackwright.cli import app as command_line
from rackwright.errors import DeclarationError
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.stack import declare, load_stack
from rackwright.status.registered import NO_SERVER, ResolvedName, notices, resolve_names
from tests.support.mlflow_server import ServedModel
from tests.support.server_stack import HOSTS
from tests.support.stack_settings import configure
from tests.workloads.tracking.test_versions import entered, published, registered
from workloads.quantize import versions
from workloads.serving import model as models
from workloads.serving.model import DamagedModel
from workloads.tracking import registry
from workloads.tracking.server import TrackingRefused, TrackingUnreachable

FLEET = """\
fleet: serving
uses: pair.yaml
servers:
  digits:
    model: {{registered: {name}@champion}}  # who says so is a reviewer
    hosts: [cinder, ember]
    anybody: true
"""


class Project:
    """A stack with one server, whose model is called by an alias at the MLflow server."""

    def __init__(self, served: ServedModel, directory: Path, name: str) -> None:
        self.served, self.directory, self.name = served, directory, name
        (stacks := directory / "stacks").mkdir()
        (directory / "Pulumi.yaml").touch()
        (stacks / "pair.yaml").write_text(HOSTS.read_text())
        configure(directory, "serving", fleet="serving.yaml", target="twin:lab")
        self.fleet = stacks / "serving.yaml"
        self.fleet.write_text(FLEET.format(name=name))

    def champion(self, content: str, written_version: str = "") -> versions.Version:
        """Register a model with this *content*, and let it be the champion.

        Args:
            written_version: What its model.json says in the place of its version.
        """
        out = self.directory / content / "model"
        version = published(out, content).version
        text = (out / "model.json").read_text()
        (out / "model.json").write_text(text.replace(version, written_version or version))
        own = patch.object(models, "version_of", lambda _: written_version)  # another program enters the model
        with own if written_version else contextlib.nullcontext():
            version = entered(self.served, out, self.name)
        versions.set_alias(self.served.as_("rita"), version, "champion")
        return version

    def server(self, *arguments: str, url: str | None = None) -> Any:
        """Run `rackwright server` as the account that serves; raise what it says to a person."""
        argv = ["server", *arguments, "--tracking", self.served.url if url is None else url]
        done = CliRunner().invoke(command_line.app, argv, env=self.served.environment("gate"))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done

    def spec(self) -> ServerSpec:
        spec = declare(load_stack("serving", self.directory))[0].spec
        assert isinstance(spec, ServerSpec)
        return spec

    def lead(self, url: str | None = None) -> ResolvedName:
        return resolve_names(load_stack("serving", self.directory), self.served.url if url is None else url)["digits"]

    def notices(self) -> list[tuple[str, str]]:
        stack = load_stack("serving", self.directory)
        return list(notices(resolve_names(stack, self.served.url), stack))


@pytest.fixture
def project(
    served: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Project:
    monkeypatch.delenv("RACKWRIGHT_SALT_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in served.environment("gate").items():
        monkeypatch.setenv(name, value)
    return Project(served, tmp_path, request.node.name.replace("_", "-"))


def test_a_name_becomes_the_model_that_it_leads_to_and_all_else_stays(project):
    with pytest.raises(DeclarationError, match="got .*@champion and no version"):
        project.spec()
    version = project.champion("first")
    done = project.server("promote", "serving", "digits")

    assert f"{project.name}@champion is {project.name}/1" in done.stderr
    content, digest = project.spec().version, version.tags[registry.CHECKPOINT]
    model = f'{{registered: "{project.name}@champion", version: "{content}", sha256: "{digest}"}}'
    assert project.fleet.read_text() == FLEET.format(name=project.name).replace(
        f"{{registered: {project.name}@champion}}", model
    )
    assert {name: (Path(str(project.spec().source)) / name).read_bytes() for name in project.spec().files} == {
        name: (project.directory / "first" / "model" / name).read_bytes() for name in ("model.onnx", "model.json")
    }
    assert (project.lead().declared, project.notices()) == (True, [])


def test_an_alias_that_moves_moves_nothing_and_is_reported(project):
    project.champion("first")
    project.server("promote", "serving", "digits")
    before = project.spec()
    project.champion("second")

    assert project.spec() == before
    message = f"{project.name}@champion is {project.name}/2, another model by now"
    assert project.notices() == [("digits", f"{message}: `rackwright server promote serving digits` takes it")]
    assert str(project.lead()) == message

    project.server("promote", "serving", "digits", f"models:/{project.name}/1")
    assert (project.spec().version, str(project.lead())) == (before.version, f"{project.name}/1 is as declared")
    project.server("promote", "serving", "digits", f"models:/{project.name}@champion")
    assert project.spec().version != before.version
    assert project.notices() == []


def test_where_a_name_leads_is_not_guessed(project):
    project.champion("first")
    project.server("promote", "serving", "digits")

    assert str(project.lead("")) == f"the version of {project.name}@champion is unknown: {NO_SERVER}"
    nobody = project.lead("https://localhost:1")
    assert (nobody.version, nobody.declared) == (None, None)
    assert "the MLflow server does not answer" in str(nobody)

    text = project.fleet.read_text()
    project.fleet.write_text(text.replace("@champion", "@nobody"))
    assert project.lead().declared is None
    assert project.notices()[0][1].startswith(f"the version of {project.name}@nobody is unknown: ")

    project.fleet.write_text(re.sub(", sha256: [^}]*", "", text))  # as `rollback` leaves it
    assert project.lead().version == f"{project.name}/1"
    assert "whether that is the declared model is unknown: the declared version has no sha256" in str(project.lead())


def test_an_audit_reports_it_and_one_of_snapshots_connects_to_no_host(project):
    project.champion("first")
    project.server("promote", "serving", "digits")
    project.champion("second")

    def noticed(*more: str) -> Any:
        argv = ["audit", "serving", "--json", "--tracking", project.served.url, *more]
        done = CliRunner().invoke(command_line.app, argv, env=project.served.environment("gate"))
        assert done.exit_code == 3, done.output  # no host is there
        return json.loads(done.stdout)["notices"]

    assert noticed() == dict(project.notices())
    nobody = f"the version of {project.name}@champion is unknown: --snapshot asks no server"
    assert noticed("--snapshot", str(project.directory)) == {"digits": nobody}


def test_another_computer_fetches_what_was_promoted_wherever_its_name_leads(project):
    project.champion("first")
    project.server("promote", "serving", "digits")
    there = project.spec()
    shutil.rmtree(registry.cache_directory())
    project.champion("second")
    assert (project.spec().source, project.spec().version) == (None, there.version)

    done = project.server("fetch", "serving", "--json")
    assert json.loads(done.stdout)["models"] == [
        {"server": "digits", "version": there.version, "directory": there.source}
    ]
    assert project.spec() == there
    project.server("fetch", "serving", "digits", url="https://localhost:1")  # it is here: nobody is asked


def test_what_does_not_prove_is_not_kept(project):
    version = project.champion("first")
    [stored] = project.served.directory.glob(f"var/lib/mlflow/artifacts/*/{version.run}/artifacts/model/model.onnx")
    whole = stored.read_bytes()
    stored.write_bytes(whole[::-1])
    before = project.fleet.read_text()

    with pytest.raises(DamagedModel, match=r"model\.onnx has the sha256"):
        project.server("promote", "serving", "digits")
    assert project.fleet.read_text() == before

    stored.write_bytes(whole)
    project.server("promote", "serving", "digits")
    assert project.spec().source is not None


def test_a_model_that_says_it_is_another_version_is_not_promoted(project):
    project.champion("first", "0123456789ab")

    with pytest.raises(TrackingRefused, match="its model.json has version 0123456789ab; .*, the version of its files"):
        project.server("promote", "serving", "digits")


def test_what_cannot_be_served_is_not_promoted(project):
    registered(project.served, project.directory / "run", project.name)
    before = project.fleet.read_text()
    for model, error, message in (
        (
            f"models:/{project.name}/1",
            TrackingRefused,
            f"{project.name}/1, from .*, is not a published model; a server needs a published model",
        ),
        (f"models:/{project.name}", DeclarationError, "got .*; a model of the registry is NAME@ALIAS or NAME/NUMBER"),
        (f"models:/{project.name}@nobody", TrackingRefused, "alias nobody"),
    ):
        with pytest.raises(error, match=message):
            project.server("promote", "serving", "digits", model)
    with pytest.raises(TrackingUnreachable):
        project.server("promote", "serving", "digits", url="https://localhost:1")
    with pytest.raises(DeclarationError, match="the registered model has no sha256"):
        project.server("fetch", "serving")

    assert project.fleet.read_text() == before
    project.fleet.write_text(before.replace(f"registered: {project.name}@champion", "path: models/digits"))
    with pytest.raises(DeclarationError, match="the argument is missing, and server digits has no registered name"):
        project.server("promote", "serving", "digits")
    with pytest.raises(DeclarationError, match="no registered model is declared; registered: NAME@ALIAS"):
        project.server("fetch", "serving", "digits")


def test_a_version_that_was_deleted_is_reported_and_not_fetched(project):
    version = project.champion("first")
    project.server("promote", "serving", "digits")
    shutil.rmtree(registry.cache_directory())
    body = json.dumps({"name": project.name, "version": "1"}).encode()
    head = {"Content-Type": "application/json"}
    project.served.as_("admin")._request("DELETE", "/api/2.0/mlflow/model-versions/delete", body, head).close()

    with pytest.raises(
        TrackingRefused, match=f"has no version of .* with sha256 {version.tags[registry.CHECKPOINT][:12]}…"
    ):
        project.server("fetch", "serving")
