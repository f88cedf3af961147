"""The example of a hospital: `check` finds no error in it, for its twin and for a rack, and parts share hosts."""

import shutil
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.stack import Stack, feasible, load_stack
from tests.support.sources import ROOT
from tests.support.stack_settings import configure, new_project

SERVICES = {"load_balancer", "mlflow", "object_store", "registry", "workloads"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a copy of the example."""
    new_project(tmp_path, monkeypatch, {})
    shutil.copytree(ROOT / "stacks/hospital", tmp_path / "stacks/hospital")
    for name in ("hospital", "hospital-models"):
        shutil.copy(ROOT / f"stacks/Pulumi.{name}.yaml", tmp_path / "stacks")
    return tmp_path


class AnySecret(dict[str, int]):
    """The lengths of secrets that all have a value."""

    def __contains__(self, name: object) -> bool:
        return True

    def get(self, name: str, default: int | None = None) -> int:  # type: ignore[override]
        return 64


def checked(project: Path, name: str) -> Stack:
    stack = load_stack(name, project)
    assert feasible.check(stack)
    return stack


def test_the_hospital_is_declared_without_an_error(project: Path) -> None:
    stack = checked(project, "hospital")
    assert stack.fleet.hosts["service-01"].roles.keys() >= SERVICES, "they share one host"
    assert {tier.level for host in stack.fleet.hosts.values() for tier in host.tiers.values()} == {"raid10", "raid6"}
    assert not stack.fleet.clusters


def test_its_models_run_on_its_hosts(project: Path) -> None:
    resources = {each.name: each.spec for each in feasible.check(load_stack("hospital-models", project))}
    assert resources.keys() == {
        "service-01/letters", "gpu-01/r1", "gpu-02/r1", "service-01/triage", "service-01/images",
    }  # fmt: skip
    gpus = {name: getattr(spec, "gpus", None) for name, spec in resources.items()}
    shared = [set(gpus[name].gpus) for name in ("service-01/letters", "service-01/triage") if gpus[name]]
    assert [len(each) for each in shared] == [2, 1] and not shared[0] & shared[1]
    assert gpus["service-01/images"] is None


def test_a_rack_needs_a_mirror_and_nothing_else(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rackwright.stack.passphrase.check", lambda *_: None)
    monkeypatch.setattr("rackwright.stack.stack._secrets", lambda *_: AnySecret())
    configure(project, "hospital", "hospital/hospital.yaml", "rack")
    with pytest.raises(DeclarationError) as error:
        checked(project, "hospital")
    [only] = error.value.diagnostics
    assert only.problem == "got registry without a source of packages"
    assert only.help.endswith("run `rackwright toolchain registry` and `rackwright lock --fetch hospital`")
    path = project / "stacks/hospital/hospital.yaml"
    path.write_text(path.read_text().replace("# mirror: {}", "mirror: {}"))
    with pytest.raises(DeclarationError) as error:
        checked(project, "hospital")
    [only] = error.value.diagnostics
    assert only.problem == "there is no lock"


@pytest.mark.parametrize(
    ("old", "new", "file", "message"),
    [
        ("gpus: 1}", "gpus: 3}", "models.yaml", "runs.letters.gpus: got 2 GPUs of service-01, after 3 of others"),
        (
            "port: 8082",
            "port: 5050",
            "models.yaml",
            "servers.images: got port 5050 (tcp), on which service-01/registry",
        ),
        ("port: 5050", "port: 5000", "hospital.yaml", "hosts.service-01.roles.registry: got port 5000 (tcp), on which"),
        ("packages: [cryptsetup-bin]", "packages: []", "hospital.yaml", "the encrypted tiers hot, warm"),
    ],
)
def test_a_mistake_in_it_is_named(project: Path, old: str, new: str, file: str, message: str) -> None:
    path = project / "stacks/hospital" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    name = "hospital" if file == "hospital.yaml" else "hospital-models"
    with pytest.raises(DeclarationError) as error:
        checked(project, name)
    assert message in str(error.value)
    assert f"stacks/hospital/{file}:" in str(error.value)
