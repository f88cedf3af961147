"""Line 3: programs with typed arguments in two languages, with other providers, and from an import."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.pages import FENCED, blocks
from tests.support.pytest_runs import run_tests
from tests.support.simulated_stack import facts_of, simulated_stack

HOST, TIER = "gpu-01", "gpu-01/scratch"
RUNTIMES = {"python": "runtime: {name: python, options: {virtualenv: .venv}}", "nodejs": "runtime: nodejs"}
GUIDE = (ROOT / "docs/guides/pulumi-programs.md").read_text()
PROGRAMS = {language: program for _, language, program in FENCED.findall(GUIDE) if language != "sh"}
"""The programs of the guide, by language."""
ADD_THE_SDK = next(blocks(GUIDE))
NODE_FILES = {
    "package.json": {
        "name": "lab",
        "main": "index.ts",
        "dependencies": {"@pulumi/pulumi": "^3.269.0"},
        "devDependencies": {"@types/node": "^20", "typescript": "^5"},
    },
    "tsconfig.json": {
        "compilerOptions": {"strict": True, "target": "es2022", "module": "commonjs", "moduleResolution": "node"},
        "include": ["*.ts"],
    },
}


@line("front", 3, part="python-typed")
def test_a_python_program_with_typed_arguments_previews(log: Log) -> str:
    with _project(log, "python") as lab:
        (lab.directory / "__main__.py").write_text(PROGRAMS["python"])
        (lab.directory / "wrong.py").write_text(PROGRAMS["python"].replace("level=", "levels="))
        mypy = [sys.executable, "-m", "mypy", "--python-executable", ".venv/bin/python", "--cache-dir", ".mypy"]
        done = log.run([*mypy, "__main__.py", "wrong.py"], lab.directory)
        _need_one_error(done, "wrong.py", 'Unexpected keyword argument "levels"')
        _need_creation(lab)
    return "the SDK has types, mypy finds a wrong argument, and the preview creates the tier"


@line("front", 3, part="other-provider")
def test_a_resource_of_another_provider_takes_an_output_of_the_rack(log: Log) -> str:
    return run_tests(log, "tests/pulumi/test_other_providers.py")


@line("front", 3, part="typescript")
def test_a_program_in_typescript_previews(log: Log) -> str:
    _need_node(log)
    with _project(log, "nodejs") as lab:
        (lab.directory / "index.ts").write_text(PROGRAMS["typescript"])
        (lab.directory / "wrong.ts").write_text(PROGRAMS["typescript"].replace("level:", "levels:"))
        _need_one_error(log.run(["npx", "tsc", "--noEmit"], lab.directory), "wrong.ts", "'levels' does not exist")
        _need_creation(lab)
    return "the SDK has types, tsc finds a wrong argument, and the preview creates the tier"


@line("front", 3, part="import-code")
def test_an_import_writes_a_program_that_previews_clean(log: Log) -> str:
    with _project(log, "python", made=True) as lab:
        log("pulumi import")
        imported = ("rackwright:storage:Tier", "gpu-01/hot", "gpu-01/hot", "--yes", "--skip-preview")
        lab.pulumi("import", *imported, "--out", "__main__.py", status=0)
        program = (lab.directory / "__main__.py").read_text()
        lab.pulumi("preview", "--expect-no-changes", status=0)
        (lab.directory / "__main__.py").write_text(program.replace("RAID10", "RAID6"))
        need(lab.pulumi("preview").returncode != 0, "a program with another level than the fleet previews")
    return f"{len(program.splitlines())} lines of Python for a tier, with a clean preview"


@contextmanager
def _project(log: Log, runtime: str, made: bool = False) -> Iterator[Lab]:
    """Hand out a project in the language of *runtime*, with the SDK that `pulumi package add` makes and installs.

    Args:
        made: Whether the tier ``hot`` of the simulated host is there.
    """
    with simulated_stack(log, {HOST: facts_of(HOST, made)}) as (lab, _):
        file = lab.directory / "Pulumi.yaml"
        before, _, after = file.read_text().partition("runtime:")
        file.write_text(f"{before}{RUNTIMES[runtime]}\nstackConfigDir{after.partition('stackConfigDir')[2]}")
        (lab.directory / "__main__.py").unlink()
        if runtime == "python":
            (lab.directory / ".venv").unlink()
            subprocess.run([sys.executable, "-m", "venv", lab.directory / ".venv"], check=True)
            (lab.directory / "requirements.txt").write_text("pulumi\n")
        else:
            for name, content in NODE_FILES.items():
                (lab.directory / name).write_text(json.dumps(content))
        lab.pulumi("stack", "init", status=0)
        log("pulumi package add")
        environment = {**lab.environment, "PATH": f"{lab.programs}{os.pathsep}{os.environ['PATH']}"}
        done = log.run(["bash", "-e", "-c", ADD_THE_SDK], lab.directory, environment)
        need(done.returncode == 0, f"the SDK is not added: {done.stderr[-300:]}")
        yield lab


def _need_creation(lab: Lab) -> None:
    """Require a preview that creates the tier of the program, and knows its mount."""
    digest = json.loads(lab.pulumi("preview", "--json", status=0).stdout)
    created = {step["urn"].rpartition("::")[2]: step["newState"] for step in digest["steps"] if step["op"] == "create"}
    need(TIER in created, f"the preview creates {', '.join(created) or 'nothing'}")
    need(created[TIER]["inputs"]["declared"]["mount"] == "/srv/scratch", f"the inputs are {created[TIER]['inputs']}")


def _need_one_error(done: "subprocess.CompletedProcess[str]", file: str, message: str) -> None:
    """Require that a type checker found one error: *message* in *file*."""
    errors = [line for line in done.stdout.splitlines() if "error" in line and not line.startswith("Found")]
    need(len(errors) == 1 and errors[0].startswith(file) and message in errors[0], f"the errors are {errors}")


def _need_node(log: Log) -> None:
    """Install Node.js from Debian unless it is there."""
    if shutil.which("npm"):
        return
    if os.geteuid() != 0:
        pytest.skip("npm is missing, and only root can install it")
    log("apt-get install nodejs npm")
    done = log.run(["apt-get", "install", "--yes", "--no-install-recommends", "nodejs", "npm"])
    need(done.returncode == 0, f"Node.js is not installed: {done.stderr[-300:]}")
