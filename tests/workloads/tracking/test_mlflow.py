"""Runs, versions and where they come from, at a real MLflow server with the role's accounts."""

import json
import sqlite3
import ssl
import subprocess
import sys
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.core.contract import Within
from rackwright.facts.facts import Facts
from rackwright.facts.probe.tracking import accounts, rights
from rackwright.kinds.role.entries.accounts import Accounts
from rackwright.kinds.role.observe import observe_property
from tests.support import sample_checkpoints
from tests.support.mlflow_server import FUNCTIONS, ServedModel
from tests.support.our_roles import REPOSITORY
from workloads.errors import UserError
from workloads.tracking import Tracker, fetch, load_lineage, register
from workloads.tracking.provenance import KEYS, code_digest
from workloads.tracking.registry import find
from workloads.tracking.server import TrackingRefused, TrackingUnreachable, connect

DECLARED = {"fleet": "f" * 64, "declaration": "d" * 64, "lock": "10c" * 8, "hosts": {"alpha": "a" * 8, "beta": "b" * 8}}


@dataclass(frozen=True)
class Trained:
    """A directory as a training leaves it."""

    out: Path
    digest: str
    """Of the manifest of its checkpoint."""


def trained(out: Path, parent: str | None = None, declared: dict[str, Any] | None = None, step: int = 3) -> Trained:
    sample_checkpoints.make(out / "checkpoints", step)
    (out / "config.json").write_text(json.dumps({"name": "digits", "steps": step}))
    lines = [{"event": "start", "host": "alpha"}, {"step": 1, "loss": 2.0}, {"step": step, "loss": 0.5}]
    lines.append({"event": "finished", "step": step, "held_out_accuracy": 0.9})
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if declared is not None:
        (out / "provenance.json").write_text(json.dumps(declared))
    own = {"parent": {"sha256": parent} if parent else None, "data": [{"kind": "digits", "sha256": "da7a"}]}
    (out / "lineage.json").write_text(json.dumps(own))
    [described] = [file for file in sample_checkpoints.files(out / "checkpoints", step) if file.name == "manifest.json"]
    return Trained(out, sha256(described.read_bytes()).hexdigest())


def tracked(served: ServedModel, out: Path, name: str = "tina") -> str:
    """Tell the server of the run in *out*, and return as what it knows it."""
    Tracker(served.as_(name), out, print).send()
    report = json.loads((out / "tracking.json").read_text())
    return str(report["run"])


def test_a_run_is_there_with_figures_parameters_and_what_made_it(served, tmp_path):
    run = served.as_("axel").get("runs/get", run_id=tracked(served, trained(tmp_path, declared=DECLARED).out))["run"]

    assert run["info"]["status"] == "FINISHED"
    figures = {each["key"]: (each["value"], int(each["step"])) for each in run["data"]["metrics"]}
    assert figures == {"loss": (0.5, 3), "held_out_accuracy": (0.9, 3)}
    assert {each["key"]: each["value"] for each in run["data"]["params"]} == {"name": "digits", "steps": "3"}
    tags = {each["key"]: each["value"] for each in run["data"]["tags"]}
    assert (tags["rackwright.hosts"], tags["start.host"]) == ("alpha=aaaaaaaa beta=bbbbbbbb", "alpha")


def test_a_checkpoint_becomes_a_version_once_and_comes_back_as_it_was(served, tmp_path):
    run = trained(tmp_path / "run", declared=DECLARED)
    tracked(served, run.out)

    version = register(served.as_("tina"), run.out, "returning")
    assert register(served.as_("tina"), run.out, "returning") == version
    assert (str(version), version.tags["checkpoint"]) == ("returning/1", run.digest)
    back = fetch(served.as_("gate"), "models:/returning/1", tmp_path / "back")
    files = sample_checkpoints.files(run.out / "checkpoints", 3)
    assert {path.name: path.read_bytes() for path in back.iterdir()} == {path.name: path.read_bytes() for path in files}


def test_artifacts_that_were_changed_are_not_taken(served, tmp_path):
    run = trained(tmp_path / "run")
    tracked(served, run.out)
    version = register(served.as_("tina"), run.out, "changed")
    [stored] = served.directory.glob(f"var/lib/mlflow/artifacts/*/{version.run}/artifacts/*/manifest.json")
    stored.write_text(stored.read_text().replace('"step": 3', '"step": 4'))

    with pytest.raises(UserError, match=r"changed/1: its manifest has SHA-256 .*; the registered SHA-256, "):
        fetch(served.as_("gate"), "changed", tmp_path / "back")


def test_a_run_that_is_not_to_be_published_is_no_version(served, tmp_path):
    run = trained(tmp_path)
    tracked(served, run.out)
    report = json.loads((run.out / "lineage.json").read_text())
    refused = {"published": False, "refused": "equal rewards", "checkpoint": run.digest}
    (run.out / "lineage.json").write_text(json.dumps({**report, **refused}))

    with pytest.raises(TrackingRefused, match="the run has not published its model: equal rewards; a model that the"):
        register(served.as_("tina"), run.out, "worse")


def test_the_chain_goes_from_a_version_to_machines_code_data_and_parents(served, tmp_path):
    first = trained(tmp_path / "first", declared=DECLARED)
    tracked(served, first.out)
    register(served.as_("tina"), first.out, "grown")
    second = trained(tmp_path / "second", parent=first.digest, declared={**DECLARED, "code": "c0de"}, step=5)
    tracked(served, second.out)
    register(served.as_("tina"), second.out, "grown")
    served.as_("rita").post("registered-models/alias", name="grown", alias="champion", version="2")

    found = load_lineage(served.as_("axel"), "grown@champion")

    assert [str(version) for version in found.versions] == ["grown/2", "grown/1"]
    assert found.missing == ()
    report = found.as_data()["versions"][0]
    assert {key: report[key] for key in ("lock", "hosts", "code", "data", "parent", "aliases")} == {
        "lock": DECLARED["lock"],
        "hosts": "alpha=aaaaaaaa beta=bbbbbbbb",
        "code": "c0de",
        "data": "da7a",
        "parent": first.digest,
        "aliases": ["champion"],
    }
    assert found.versions[1].tags["code"] == code_digest()


def test_what_is_not_known_is_reported_and_not_made_up(served, tmp_path):
    run = trained(tmp_path, parent="of a run that nobody registered")
    tracked(served, run.out)
    register(served.as_("tina"), run.out, "alone")

    missing = load_lineage(served.as_("axel"), "alone").missing
    assert missing == (
        *(f"alone/1: {key}" for key in KEYS[:4]),
        "the version of checkpoint of a run that nobody registered",
    )


# --- the command


def command(served: ServedModel, *arguments: str, name: str = "axel") -> Any:
    return CliRunner().invoke(app, ["lineage", *arguments, "--tracking", served.url], env=served.environment(name))


def test_the_command_prints_the_chain_and_ends_by_what_it_lacks(served, tmp_path):
    whole = trained(tmp_path / "whole", declared=DECLARED)
    tracked(served, whole.out)
    register(served.as_("tina"), whole.out, "printed")
    done = command(served, "printed")
    assert done.exit_code == 0
    for text in ("printed/1", "alpha=aaaaaaaa", DECLARED["lock"], "da7a", "parent", "none"):
        assert text in done.output

    bare = trained(tmp_path / "bare", step=4)
    tracked(served, bare.out)
    register(served.as_("tina"), bare.out, "printed")
    done = command(served, "printed/2", "--json")
    assert done.exit_code == 3
    assert "printed/2: lock" in json.loads(done.stdout)["missing"]


def test_the_command_names_what_is_not_there(served):
    for reference, message in (
        ("nothing", "has no version nothing"),
        ("a b@c@d", "is not a version; MODEL, MODEL@ALIAS"),
    ):
        with pytest.raises(TrackingRefused, match=message):
            load_lineage(served.as_("axel"), reference)
    with pytest.raises(TrackingUnreachable, match="certificate"):
        connect(served.url, {}).get("experiments/get", experiment_id="0")


def test_what_a_run_has_kept_is_sent_and_registered_by_hand(served, tmp_path):
    run = trained(tmp_path, declared=DECLARED)
    argv = [sys.executable, "-m", "workloads.tracking", str(run.out), "--register", "by-hand"]
    done = subprocess.run(
        [*argv, "--tracking", served.url], env=served.environment("tina"), capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "by-hand/1 is registered\n"), done.stderr


# --- the role's own


def test_accounts_are_those_that_are_declared(served):
    """
    One that somebody made is removed, a password that was changed is the declared one again.
    """
    admin = served.as_("admin")
    admin.post("users/create", username="mallory", password="mallory-mallory")
    answer = urllib.request.Request(
        f"{served.url}/api/2.0/mlflow/users/update-password",
        json.dumps({"username": "tina", "password": "another-password"}).encode(),
        {**admin._head, "Content-Type": "application/json"},
        method="PATCH",
    )
    trusted = ssl.create_default_context(cafile=str(served.certificate))
    urllib.request.urlopen(answer, context=trusted).close()

    assert accounts(str(served.directory))["mallory"] == []

    assert set(served.accounts().splitlines()) == {"mallory: removed: it is not declared", "tina: has its password"}
    assert served.accounts() == ""
    assert accounts(str(served.directory)) == {
        "admin": ["admin"],
        **{name: [function] for name, function in FUNCTIONS.items()},
    }


def test_rights_are_those_that_are_declared(served, tmp_path):
    """
    Rights that an account of the fleet got by hand took effect and stayed; those of the maker of a run stay.
    """
    tracked(served, trained(tmp_path).out)
    claim = Accounts(
        accounts="mlflow", functions=json.dumps({**FUNCTIONS, "admin": "admin"}), makers='["admin", "trainer"]',
        rights=json.dumps({"trainer": {"experiment": "EDIT", "registered_model": "EDIT"},
                           "reviewer": {"registered_model": "EDIT"}, "auditor": {}, "serving": {}}),
    ).claim(REPOSITORY)  # fmt: skip

    def odd() -> set[str]:
        facts = Facts({"tracking_rights": rights(str(served.directory))})
        found = observe_property(facts, "accounts", "mlflow", "rights", claim)
        assert isinstance(found, tuple) and isinstance(claim.want["rights"], Within)
        assert observe_property(facts, "accounts", "mlflow", "lacking", claim) == ()
        return {str(each) for each in found} - {*map(str, claim.want["rights"].values)}

    assert odd() == set()
    assert "MANAGE of what it made" in rights(str(served.directory))["account tina"]
    kept = rights(str(served.directory))
    with closing(sqlite3.connect(served.directory / "var/lib/mlflow/accounts.db")) as database, database:
        user = dict(database.execute("SELECT username, id FROM users"))
        role = dict(database.execute("SELECT name, id FROM roles"))
        of_gate = f"__user_{user['gate']}__"
        database.executemany(
            "INSERT INTO roles (id, name, workspace) VALUES (?, ?, ?)",
            [(901, "boss", "default"), (902, "trainer", "other"), (903, of_gate, "default"),
             (904, "__user_999__", "default")],
        )  # fmt: skip
        database.executemany(
            "INSERT INTO role_permissions (role_id, resource_type, resource_pattern, permission) VALUES (?, ?, ?, ?)",
            [(role["serving"], "experiment", "*", "MANAGE"), (901, "workspace", "*", "MANAGE"),
             (902, "experiment", "*", "MANAGE"), (903, "experiment", "1", "MANAGE"), (904, "prompt", "*", "READ"),
             (role[f"__user_{user['tina']}__"], "experiment", "*", "DENY")],
        )  # fmt: skip
        database.executemany(
            "INSERT INTO user_role_assignments (user_id, role_id) VALUES (?, ?)",
            [(user["gate"], 901), (user["gate"], 903), (user["axel"], role[f"__user_{user['tina']}__"])],
        )
    assert odd() == {
        "account axel: DENY of every experiment, by " + f"__user_{user['tina']}__",
        "account axel: MANAGE of what it made, by " + f"__user_{user['tina']}__",
        "account gate: MANAGE of what it made",
        "account tina: DENY of every experiment",
        "role __user_999__: READ of every prompt",
        "role boss: MANAGE of every workspace",
        "role serving: MANAGE of every experiment",
        "role trainer: MANAGE of every experiment in the workspace other",
    }

    assert served.accounts() != ""

    assert odd() == set() and rights(str(served.directory)) == kept
    assert served.accounts() == ""
    assert accounts(str(served.directory))["gate"] == ["serving"]


def test_a_version_stays_as_it_was_registered(served, tmp_path):
    run = trained(tmp_path, declared=DECLARED)
    tracked(served, run.out)
    version = register(served.as_("tina"), run.out, "sealed")

    for name in ("tina", "rita"):
        with pytest.raises(TrackingRefused, match="403"):
            served.as_(name).post(
                "model-versions/set-tag", name="sealed", version=version.version, key="rackwright.lock", value="x"
            )
    assert find(served.as_("gate"), "sealed").tags["lock"] == DECLARED["lock"]
