"""The environments that a twin has, of those that its fleet declares."""

import shutil
from pathlib import Path

import pytest

from rackwright.cli.app import check
from rackwright.errors import DeclarationError
from rackwright.stack import feasible, load_stack
from tests.support.log import ROOT

SETTING = "  rackwright:environments: [serving]\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the hospital."""
    monkeypatch.delenv("RACKWRIGHT_SALT_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "stacks", tmp_path / "stacks", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    return tmp_path


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, path
    path.write_text(text.replace(before, after))


def setting(project: Path, line: str) -> None:
    change(project / "stacks/Pulumi.hospital.yaml", SETTING, line)


def test_a_twin_has_the_environments_of_its_setting_and_what_runs_in_them(project: Path) -> None:
    hosts, models = load_stack("hospital", project), load_stack("hospital-models", project)

    names = ("gpu-01", "gpu-02", "service-01")
    assert [hosts.fleet.hosts[name].roles["workloads"]["environments"] for name in names] == [["serving"]] * 3
    assert "gpu-01, gpu-02, service-01: of the environments of role workloads the twin has serving" in hosts.notices
    assert ([*models.fleet.runs], [*models.fleet.servers]) == ([], ["images"])
    lacking = (
        "left out: runs.letters, servers.r1, servers.triage, which need an environment that the twin does not have"
    )
    assert lacking in models.notices
    assert not models.is_whole
    assert feasible.check(models)


def test_without_the_setting_a_twin_has_all(project: Path) -> None:
    setting(project, "")

    stack = load_stack("hospital-models", project)

    assert ([*stack.fleet.runs], [*stack.fleet.servers]) == (["letters"], ["r1", "triage", "images"])
    assert stack.is_whole


def test_a_run_with_an_environment_of_its_own_stays(project: Path) -> None:
    change(
        project / "stacks/hospital/models.yaml",
        "    recipe: lora\n",
        "    recipe: lora\n    environment: {path: /opt/own}\n",
    )

    assert [*load_stack("hospital-models", project).fleet.runs] == ["letters"]


def test_a_twin_without_environments_has_no_role(project: Path) -> None:
    setting(project, "  rackwright:environments: []\n")

    hosts, models = load_stack("hospital", project), load_stack("hospital-models", project)

    assert all("workloads" not in host.roles for host in hosts.fleet.hosts.values())
    assert any(notice.endswith("the twin has none") for notice in hosts.notices)
    assert models.fleet.servers == {}


def test_an_unknown_environment_is_named(project: Path) -> None:
    setting(project, "  rackwright:environments: [servin]\n")

    with pytest.raises(DeclarationError) as error:
        load_stack("hospital", project)

    [found] = error.value.diagnostics
    assert found.where.endswith("config.rackwright:environments[0]")
    assert (found.problem, found.help) == ("got 'servin'", "Write serving")
    assert found.expected.startswith("environments of role workloads: ")


def test_check_reads_what_the_twin_leaves_out(project: Path) -> None:
    """A rack has it, and a clean check of the twin was the last one before the rack's."""
    change(project / "stacks/hospital/models.yaml", "gpus: 1}", "gpus: 3}")

    with pytest.raises(DeclarationError, match="got 2 GPUs of service-01, after 3 of others"):
        check("hospital-models")
