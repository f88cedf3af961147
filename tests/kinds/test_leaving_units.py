"""Units and files that leave a host with the role that made them."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rackwright.core.contract import Absent, Command, Difference, Put
from rackwright.facts.facts import Facts
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.promise import promises
from rackwright.kinds.shared.ownership import _STOP, written_units
from rackwright.schema import secret
from tests.support.our_roles import REPOSITORY, ROLES
from tests.support.role_spec import good
from tests.support.shipped_roles import facts, spec

KIND = RoleKind()

SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
case "$1 $4" in "show tables.service") echo oneshot;; "show web.service") echo exec;; "show "*) echo;; esac
"""


def test_a_removal_stops_the_roles_units_before_it_removes_their_files_and_those_that_the_host_made() -> None:
    promised = promises(spec("mlflow"), REPOSITORY)
    wrote = [*(file.file for file in promised.files), *promised.leaving_files]
    owner = {"id": "alpha/mlflow", "fleet": "lab", "phase": "ready", "wrote": wrote}
    made = {f"/etc/rackwright/mlflow/{name}" for name in ("session.env", "tls.crt", "tls.key")}
    assert made == {*promised.leaving_files}

    plan = KIND.removal(spec("mlflow"), facts({}, **{"role-mlflow": owner}), REPOSITORY, True)
    stop, restore = (step for step in plan.steps if isinstance(step, Command) and step.argv[0] == "sh")

    assert stop.text == "stop and disable mlflow-accounts.service, mlflow.service"
    assert made < {*restore.argv}


def test_the_files_that_the_host_makes_are_noted_when_the_role_is_played() -> None:
    mlflow = spec("mlflow")
    names = {str(name) for _, name in secret.references(mlflow.variables)}
    repository = replace(REPOSITORY, secrets=dict.fromkeys(names, "correct horse battery"))
    claim = next(each for each in KIND.claims(mlflow, repository) if each.thing.endswith("/functions.json"))
    differences = [Difference(claim.thing, name, want, Absent()) for name, want in claim.want.items()]

    plan = KIND.plan(mlflow, differences, Facts({**good(), "packages": {}, "owners": {}}), repository)

    texts = [step.content for step in plan.steps if isinstance(step, Put)]
    assert len(texts) == 2 and all("/etc/rackwright/mlflow/tls.key" in text for text in texts)


@pytest.mark.parametrize("backup", [False, True])
def test_units_that_run_are_stopped_and_one_that_comes_back_is_not(tmp_path: Path, backup: bool) -> None:
    units, kept, log = tmp_path / "units", tmp_path / "kept", tmp_path / "log"
    for folder in (units, tmp_path / "bin"):
        folder.mkdir()
    for name in ("web.service", "tables.service", "copy.timer"):
        (units / name).touch()
    if backup:
        earlier = Path(f"{kept}{units}/web.service")
        earlier.parent.mkdir(parents=True)
        earlier.touch()
    (tmp_path / "bin/systemctl").write_text(SYSTEMCTL.format(log=log))
    (tmp_path / "bin/systemctl").chmod(0o755)
    argv = [
        "sh",
        "-c",
        _STOP,
        "sh",
        str(kept),
        str(units),
        "web.service",
        "tables.service",
        "copy.timer",
        "gone.service",
    ]

    subprocess.run(argv, check=True, env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})

    done = [line for line in log.read_text().splitlines() if not line.startswith("show")]
    web = [] if backup else ["disable --quiet web.service", "stop web.service"]
    assert done == [*web, "disable --quiet tables.service", "disable --quiet copy.timer", "stop copy.timer"]


def test_units_are_the_files_of_their_directory_alone() -> None:
    paths = ["/etc/systemd/system/a.service", "/etc/systemd/system/b.service.d/x.conf", "/etc/systemd/network/a.link"]
    assert written_units(paths) == ("a.service",)


def test_a_file_that_leaves_is_in_a_directory_or_has_a_name_of_the_suite() -> None:
    for role in ROLES:
        for entry in ROLES[role].claims:
            if entry.get("leaves") and "present" in entry:
                own = (f"/etc/rackwright/{role}/", "/var/lib/prometheus/node-exporter/rackwright_")
                assert entry["present"].startswith(own), "another program's file stays"


def test_a_template_of_units_is_removed_and_not_stopped() -> None:
    promised = promises(spec("service_exporter"), REPOSITORY)
    owner = {
        "id": "alpha/service_exporter",
        "fleet": "lab",
        "phase": "ready",
        "wrote": [f.file for f in promised.files],
    }
    plan = KIND.removal(spec("service_exporter"), facts({}, **{"role-service_exporter": owner}), REPOSITORY, True)
    stop, restore = (step for step in plan.steps if isinstance(step, Command) and step.argv[0] == "sh")

    assert stop.text == "stop and disable rackwright-service-metrics.socket"
    assert "/etc/systemd/system/rackwright-service-metrics@.service" in restore.argv
