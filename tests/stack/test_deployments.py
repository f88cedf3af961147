"""The whole deployments: `check` finds no error in them, for their twins and for a rack, and parts share hosts."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.kinds.training_run.spec import TrainingSpec
from rackwright.schema.catalogue import VENDORS
from rackwright.stack import Stack, feasible, load_stack
from tests.support.sources import ROOT
from tests.support.stack_settings import configure, new_project

DEPLOYMENTS = ("bank", "factory", "hospital")
SERVICES = {"load_balancer", "mlflow", "object_store", "registry", "workloads"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with copies of the deployments."""
    new_project(tmp_path, monkeypatch, {})
    for name in DEPLOYMENTS:
        shutil.copytree(
            ROOT / "stacks" / name, tmp_path / "stacks" / name, ignore=shutil.ignore_patterns("*.lock.yaml")
        )
        for stack in (name, f"{name}-models"):
            shutil.copy(ROOT / f"stacks/Pulumi.{stack}.yaml", tmp_path / "stacks")
    return tmp_path


class AnySecret(dict[str, int]):
    """The lengths of secrets that all have a value."""

    def __contains__(self, name: object) -> bool:
        return True

    def get(self, name: str, default: int | None = None) -> int:  # type: ignore[override]
        return 512


def without_mirror(project: Path) -> None:
    """Give the hosts of the deployments their own sources of packages."""
    for name in DEPLOYMENTS:
        path = project / "stacks" / name / f"{name}.yaml"
        path.write_text(re.sub(r"(?m)^mirror: .*\n", "", path.read_text()))


def without_containers(project: Path, name: str) -> None:
    """Make virtual machines of the hosts of a deployment's twin."""
    path = project / "stacks" / f"Pulumi.{name}.yaml"
    path.write_text(re.sub(r"(?m)^  rackwright:containers: .*\n", "", path.read_text()))


def errors_of(name: str, project: Path) -> list[Diagnostic]:
    try:
        assert feasible.check(load_stack(name, project, whole=name.endswith("-models")))
    except DeclarationError as errors:
        return list(errors.diagnostics)
    return []


def checked(project: Path, name: str) -> Stack:
    stack = load_stack(name, project, whole=name.endswith("-models"))
    assert feasible.check(stack)
    return stack


PROGRAMS = {
    "hospital": ("registry",),
    "bank": ("kubernetes", "kubernetes-queue", "kubernetes-metrics", "registry"),
}
"""Programs that `rackwright toolchain` builds for the hosts of a deployment."""


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_is_declared_without_an_error(project: Path, name: str) -> None:
    [lock] = errors_of(name, project)  # which a person fetches first
    programs = PROGRAMS.get(name, ())
    steps = ", ".join(
        f"`rackwright {each}`" for each in (*(f"toolchain {each}" for each in programs), f"lock --fetch {name}")
    )
    comma = "," if programs else ""
    assert (lock.id, lock.help) == ("lock-missing", f"Run {steps}{comma} and commit the lock")
    without_mirror(project)
    assert errors_of(name, project) == [] or name == "bank"  # where packages of Kubernetes have no other source
    assert errors_of(f"{name}-models", project) == []


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_without_its_containers_is_declared_for_virtual_machines(project: Path, name: str) -> None:
    without_containers(project, name)
    assert [error for error in errors_of(name, project) if error.id != "lock-missing"] == []


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_keys_and_certificates_of_a_deployment_belong_together(project: Path, name: str) -> None:
    """Each certificate of a host has the addresses of its role, and its authority has signed it."""
    for host in load_stack(name, project).fleet.hosts.values():
        for role in host.roles.values():
            if not isinstance(role, dict) or not role.get("certificate"):
                continue
            own, *rest = x509.load_pem_x509_certificates(role["certificate"].encode())
            names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert role["address"] in map(str, names.get_values_for_type(x509.IPAddress))
            authorities = rest or x509.load_pem_x509_certificates(role["authority"].encode())
            own.verify_directly_issued_by(authorities[0])


def test_the_hospital_shares_its_third_host(project: Path) -> None:
    without_mirror(project)
    stack = checked(project, "hospital")
    assert stack.fleet.hosts["service-01"].roles.keys() >= SERVICES, "they share one host"
    assert not stack.fleet.clusters
    without_containers(project, "hospital")
    hosts = checked(project, "hospital").fleet.hosts.values()
    assert {tier.level for host in hosts for tier in host.tiers.values()} == {"raid10", "raid6"}


def test_pods_and_units_of_the_bank_share_its_hosts(project: Path) -> None:
    resources = {each.name: each.spec for each in feasible.check(load_stack("bank-models", project, whole=True))}
    assert resources.keys() == {
        *(f"{host}/credit" for host in ("gpu-01", "gpu-02", "gpu-03", "cp-01")), "gpu-04/letters", "gpu-01/desk",
        *(f"{host}/screening" for host in ("gpu-02", "gpu-03", "gpu-04", "cp-01")), "gpu-02/desk",
    }  # fmt: skip
    units = [resources[name] for name in ("gpu-01/desk", "gpu-02/desk", "gpu-04/letters")]
    assert [spec.gpus.gpus for spec in units if isinstance(spec, ServerSpec | TrainingSpec) and spec.gpus] == [
        ("6", "7")
    ] * 3


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("bank", "gpus: [6, 7]}", "gpus: [5, 6]}", "servers.desk.vllm.gpus: got GPU 5 of gpu-01, which pods have"),
        ("bank", "team: fraud", "team: fruad", "fruad"),
        ("factory", "rows.npz", "lines.npz", "servers.parts.canary.data: got stacks/factory/lines.npz"),
    ],
)
def test_a_mistake_in_models_is_named(project: Path, name: str, old: str, new: str, message: str) -> None:
    path = project / f"stacks/{name}/models.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DeclarationError) as error:
        checked(project, f"{name}-models")
    assert message in str(error.value)
    assert f"stacks/{name}/models.yaml:" in str(error.value)


def test_its_models_run_on_its_hosts(project: Path) -> None:
    resources = {each.name: each.spec for each in feasible.check(load_stack("hospital-models", project, whole=True))}
    assert resources.keys() == {
        "service-01/letters", "gpu-01/r1", "gpu-02/r1", "service-01/triage", "service-01/images",
    }  # fmt: skip
    gpus: dict[str, Any] = {name: getattr(spec, "gpus", None) for name, spec in resources.items()}
    shared = [set(gpus[name].gpus) for name in ("service-01/letters", "service-01/triage")]
    assert [len(each) for each in shared] == [2, 1] and not shared[0] & shared[1]
    assert gpus["service-01/images"] is None


def test_a_rack_needs_a_mirror_and_nothing_else(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rackwright.stack.passphrase.check", lambda *_: None)
    # as after a change of keys and certificates
    monkeypatch.setattr("rackwright.stack.published.example_fingerprints", dict)
    monkeypatch.setattr("rackwright.stack.load.read_secret_lengths", lambda *_: AnySecret())
    configure(project, "hospital", "hospital/hospital.yaml", "rack")
    without_mirror(project)
    with pytest.raises(DeclarationError) as error:
        checked(project, "hospital")
    key, source = error.value.diagnostics  # no further run is needed to see both
    assert key.problem.startswith("there is no lock with the key of https://developer.download.nvidia.com/")
    assert key.help.startswith("Run `rackwright lock hospital`")
    assert source.problem == "got registry without a source of packages"
    stack = load_stack("hospital", project)
    with pytest.raises(DeclarationError) as error:
        feasible.check(replace(stack, vendor_keys={VENDORS["nvidia-cuda"].fingerprint: "a key"}))
    [only] = error.value.diagnostics
    assert only.problem == "got registry without a source of packages"
    assert only.help.endswith("run `rackwright toolchain registry` and `rackwright lock --fetch hospital`")
    shutil.copy(ROOT / "stacks/hospital/hospital.yaml", project / "stacks/hospital/hospital.yaml")
    with pytest.raises(DeclarationError) as error:
        checked(project, "hospital")
    [only] = error.value.diagnostics
    assert only.problem == "there is no lock"
    assert only.help == "Run `rackwright toolchain registry`, `rackwright lock --fetch hospital`, and commit the lock"


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
    without_mirror(project)
    with pytest.raises(DeclarationError) as error:
        checked(project, name)
    assert message in str(error.value)
    assert f"stacks/hospital/{file}:" in str(error.value)


def test_an_environment_that_the_hosts_of_a_server_lack_is_named_with_what_to_write(project: Path) -> None:
    """The server would wait for files that nothing makes."""
    path = project / "stacks/hospital/hospital.yaml"
    path.write_text(path.read_text().replace("environments: [training, serving, vllm]", "environments: [serving]"))
    with pytest.raises(DeclarationError) as error:
        feasible.check(load_stack("hospital-models", project, whole=True))
    found = {each.where.rpartition(": ")[2]: each for each in error.value.diagnostics}
    assert found.keys() == {"runs.letters", "servers.r1", "servers.triage"}
    assert found["servers.r1"].problem == "got gpu-01, where role workloads makes serving"
    assert "Add vllm to `environments` of role workloads" in str(found["servers.r1"].help)
    assert "training" in str(found["runs.letters"].help)
    models = project / "stacks/hospital/models.yaml"
    own = "    environment: {path: /opt/own}\n    hosts:"
    models.write_text(models.read_text().replace("    hosts:", own))
    assert feasible.check(load_stack("hospital-models", project, whole=True))


def test_a_run_that_horovod_would_launch_where_it_is_missing_is_named(project: Path) -> None:
    """The first `up` of the factory ended there, after the packages of all hosts had been installed."""
    path = project / "stacks/hospital/models.yaml"
    path.write_text(path.read_text().replace("    recipe: lora\n", "    recipe: lora\n    launcher: horovod\n"))
    with pytest.raises(DeclarationError) as error:
        feasible.check(load_stack("hospital-models", project, whole=True))
    [found] = error.value.diagnostics
    assert found.where.rpartition(": ")[2] == "runs.letters"
    assert found.problem == "got service-01, where role workloads makes the environment without Horovod"
    assert "launcher: torchrun" in str(found.help)
    hosts = project / "stacks/hospital/hospital.yaml"
    hosts.write_text(hosts.read_text().replace("horovod: false", "horovod: true"))
    assert feasible.check(load_stack("hospital-models", project, whole=True))
