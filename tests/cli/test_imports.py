"""The command line imports its heavy parts when a command uses them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from rackwright.cli import backup, project
from workloads.checkpoint.archive import Compression
from workloads.tracking.server import URL

HEAVY = (
    "ansible", "cryptography", "google.protobuf", "grpc", "jinja2", "paramiko", "pulumi", "ruamel", "yaml",
    "rackwright.cli.json_log_types", "rackwright.cli.json_outputs", "rackwright.cli.json_types",
    "rackwright.hosts", "rackwright.stack", "rackwright.facts", "rackwright.kinds", "rackwright.schema",
    "rackwright.twin", "workloads.catalogue", "workloads.checkpoint", "workloads.tracking",
    "workloads.recipes", "workloads.serving", "workloads.training",
)  # fmt: skip
"""Packages that take long to import, the schema and the catalogue of accelerators among them."""
UNUSED = (
    "rackwright.cli.json_log_types", "rackwright.cli.json_outputs", "rackwright.cli.json_types",
    "ansible", "cryptography", "google.protobuf", "grpc", "jinja2", "paramiko", "pulumi", "ruamel",
    "rackwright.hosts", "rackwright.kinds.model_server", "rackwright.kinds.network.plan",
    "rackwright.kinds.role.entries", "rackwright.kinds.tier.plan", "rackwright.kinds.training_run", "rackwright.twin",
    "workloads.checkpoint", "workloads.recipes", "workloads.serving", "workloads.tracking", "workloads.training",
)  # fmt: skip
"""Packages and modules that the check of a fleet of hosts without roles does not need: a plan needs some of them."""
ROOT = Path(__file__).parents[2]
CALL = "import atexit, sys; from rackwright.cli import main; atexit.register(lambda: print(*sys.modules)); main()"


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["check", "--help"], ["twin", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(argv):
    done = subprocess.run([sys.executable, "-c", CALL, *argv], capture_output=True, text=True, check=True)

    modules = set(done.stdout.splitlines()[-1].split())
    assert "rackwright.cli.twin" in modules
    assert modules & {*HEAVY} == set()
    assert "pydantic" not in modules or argv != ["--help"]  # Typer itself imports it to parse any other option


def test_a_check_imports_only_what_the_fleet_declares(tmp_path):
    environment = {**os.environ, "RACKWRIGHT_SALT_FILE": str(tmp_path / "salt")}
    argv = [sys.executable, "-c", CALL, "check", "lab"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)

    modules = set(done.stdout.splitlines()[-1].split())
    assert "rackwright.kinds.tier" in modules
    assert modules & {*UNUSED} == set()


def test_no_garbage_is_collected_at_the_end_of_a_command():
    """
    The objects are in the generation that no collection looks at.
    """
    count = "atexit.register(lambda: print(gc.get_freeze_count()))"
    call = f"import atexit, gc; from rackwright.cli import main; {count}; main()"
    done = subprocess.run([sys.executable, "-c", call, "--version"], capture_output=True, text=True, check=True)

    assert int(done.stdout.splitlines()[-1]) > 10_000


def test_the_environment_for_pulumi_needs_no_schema():
    call = "import rackwright.toolchain, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) & {*HEAVY} == set()


def test_names_that_the_command_line_repeats_are_those_of_the_workloads():
    """
    Each import of the original would be a heavy one.
    """
    assert project.TRACKING_URL == URL
    assert get_args(backup.Compression) == tuple(Compression)
