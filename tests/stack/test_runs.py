"""A stack of runs: whose hosts it has, and which resources it is."""

import json
import re
from pathlib import Path

import pytest
import yaml

from rackwright.errors import DeclarationError
from rackwright.kinds.training_run import TrainingRunKind, TrainingWorkerKind
from rackwright.kinds.training_run.spec import TrainingSpec
from rackwright.stack import declare, load_stack
from tests.support.stack_settings import configure, new_project
from workloads.training.config import TrainingConfig

HOSTS = Path(__file__).parents[1] / "fleet/wrong_runs/pair.yaml"
RUNS = """\
fleet: training
uses: pair.yaml
runs:
  digits:
    recipe: digits
    hosts: [cinder, ember]
    checkpoints: {tier: warm}
    set: {steps: 500, saving: {every_steps: 50}, seed: 0}
  alone:
    recipe: deepseek-v3-tiny
    hosts: [ash]
    processes: 2
    checkpoints: {tier: warm}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    new_project(tmp_path, monkeypatch, {"pair.yaml": HOSTS.read_text(), "training.yaml": RUNS})
    configure(tmp_path, "lab", fleet="pair.yaml", target="twin:lab", containers=["cinder"], workloads="lent")
    configure(tmp_path, "training", fleet="training.yaml", target="twin:lab")
    return tmp_path


def test_its_hosts_are_made_as_their_own_stack_says(project: Path) -> None:
    stack = load_stack("training", project)

    assert stack.containers == {"cinder"}
    assert stack.lends_workloads
    assert stack.lock_file.name == "pair.lock.yaml"
    assert "training_key" in stack.repository.secrets


def test_a_twin_of_its_own_is_made_as_it_says_itself(project: Path) -> None:
    configure(project, "training", fleet="training.yaml", target="twin:other", containers=["ember"])

    assert load_stack("training", project).containers == {"ember"}


def test_on_a_rack_pins_are_those_of_the_hosts_own_fleet(project: Path) -> None:
    configure(project, "training", fleet="training.yaml", target="rack")

    with pytest.raises(DeclarationError, match="got a secret training_key without a value"):
        load_stack("training", project)
    secret = {"training_key": {"secure": "v1:x"}}
    configure(project, "training", fleet="training.yaml", target="rack", secrets=secret)

    assert load_stack("training", project).endpoints["ember"].known_hosts.name == "pair.known_hosts"


def test_a_mirror_of_the_hosts_is_none_of_their_runs(project: Path) -> None:
    """
    No role is played, so no package is brought.
    """
    path = project / "stacks" / "pair.yaml"
    path.write_text(path.read_text() + "mirror: {}\n")

    assert [declared.name for declared in declare(load_stack("training", project))]


def test_workloads_are_lent_to_a_twin_alone(project: Path) -> None:
    configure(project, "lab", fleet="pair.yaml", target="rack", workloads="lent")

    with pytest.raises(DeclarationError, match="got 'lent'; hosts of a rack have their own environment"):
        load_stack("lab", project)


def give_roles(project: Path, roles: dict[str, object]) -> None:
    """Give the host cinder these roles."""
    path = project / "stacks" / "pair.yaml"
    fleet = yaml.safe_load(path.read_text())
    fleet["hosts"]["cinder"]["roles"] = roles
    path.write_text(json.dumps(fleet))


def test_hosts_that_do_not_use_a_loan_are_named(project: Path) -> None:
    """Role workloads installs an environment of its own, and the setting did silently nothing."""

    def notices() -> list[str]:
        return [each for each in load_stack("lab", project).notices if "rackwright:workloads" in each]

    assert notices() == []
    give_roles(project, {"base": {}, "workloads": {}})
    [notice] = notices()
    assert notice.endswith("role workloads installs the environment of cinder")
    configure(project, "lab", fleet="pair.yaml", target="twin:lab", workloads="lent")
    [notice] = notices()
    assert "the twin has no containers" in notice
    configure(project, "lab", fleet="pair.yaml", target="twin:lab", containers=["cinder"])
    assert notices() == []


def test_the_launcher_host_comes_after_the_workers_and_nothing_else_is_declared(project: Path) -> None:
    resources = {
        declared.name: (declared.token, declared.after) for declared in declare(load_stack("training", project))
    }

    assert resources == {
        "ember/digits": (TrainingWorkerKind.token, ()),
        "cinder/digits": (TrainingRunKind.token, ("ember/digits",)),
        "ash/alone": (TrainingRunKind.token, ()),
    }


def spec(project: Path, name: str) -> TrainingSpec:
    [found] = [declared.spec for declared in declare(load_stack("training", project)) if declared.name == name]
    assert isinstance(found, TrainingSpec)
    return found


def test_only_a_run_on_several_hosts_talks_over_the_fabric(project: Path) -> None:
    several, alone = spec(project, "cinder/digits"), spec(project, "ash/alone")

    assert several.interface == "fabric0"
    assert [host.address for host in several.hosts] == ["10.141.0.12", "10.141.0.11"]
    assert (alone.interface, alone.hosts[0].address) == (None, "localhost")


def test_a_configuration_says_what_was_chosen_and_reads_back_whole(project: Path) -> None:
    """
    What is a default is left out, so that a new one is no change of a run.
    """
    text = spec(project, "cinder/digits").config
    report, whole = json.loads(text), TrainingConfig.model_validate_json(text)

    assert report["saving"] == {"every_steps": 50}
    assert "seed" not in report
    assert (whole.name, whole.steps, whole.world, whole.launcher) == ("digits", 500, 2, "horovod")
    assert whole.model.kind == "image-classifier"
    assert TrainingConfig.model_validate_json(spec(project, "ash/alone").config).data.kind == "text"


def test_a_language_model_on_gpus_is_started_by_torchrun_unless_the_run_names_horovod(project: Path) -> None:
    pair, training = project / "stacks" / "pair.yaml", project / "stacks" / "training.yaml"
    hosts = re.sub(r"(ash|pair):\n    profile: virtual", r"\1:\n    profile: gpus", pair.read_text())
    pair.write_text(f"{hosts}profiles:\n  gpus: {{gpus: {{a100-80gb: 1}}}}\n")

    assert json.loads(spec(project, "ash/alone").config)["launcher"] == "torchrun"
    assert json.loads(spec(project, "cinder/digits").config)["launcher"] == "horovod"
    training.write_text(training.read_text().replace("processes: 2", "processes: 2\n    launcher: horovod"))
    assert json.loads(spec(project, "ash/alone").config)["launcher"] == "horovod"


def test_a_run_is_not_changed_by_hosts_that_it_does_not_have(project: Path) -> None:
    before = spec(project, "cinder/digits")
    path = project / "stacks" / "pair.yaml"
    path.write_text(path.read_text().replace("/srv/cold", "/srv/ice"))

    assert spec(project, "cinder/digits") == before


def test_its_fingerprints_follow_what_is_declared(project: Path) -> None:
    before = spec(project, "cinder/digits").provenance
    path = project / "stacks" / "training.yaml"
    path.write_text(RUNS.replace("steps: 500", "steps: 600"))
    after = spec(project, "cinder/digits").provenance

    assert {name for name in before if before[name] != after[name]} == {"declaration"}


def imported(project: Path) -> dict[str, str]:
    """Return what each host's run imports."""
    specs = (declared.spec for declared in declare(load_stack("training", project)))
    return {spec.host: spec.environment for spec in specs if isinstance(spec, TrainingSpec)}


def test_a_run_imports_what_role_workloads_makes_on_all_of_its_hosts(project: Path) -> None:
    """
    Where the role is on some of them, makes none for training, or where something else is declared, it does not.
    """
    pair = project / "stacks/pair.yaml"
    hosts = yaml.safe_load(pair.read_text())
    assert set(imported(project).values()) == {"/opt/workloads"}

    hosts["hosts"]["cinder"]["roles"] = {"base": {}, "workloads": {}}
    pair.write_text(yaml.safe_dump(hosts))
    assert imported(project)["cinder"] == "/opt/workloads"

    hosts["hosts"]["ember"]["roles"] = {"base": {}, "workloads": {}}
    pair.write_text(yaml.safe_dump(hosts))
    found = imported(project)
    assert found["cinder"] == found["ember"] != found["ash"] == "/opt/workloads"
    assert re.fullmatch("/opt/rackwright/workloads/training-[0-9a-f]{16}", found["cinder"])

    report = RUNS.replace("    set:", "    environment: {path: /opt/own}\n    set:")
    (project / "stacks/training.yaml").write_text(report)
    assert imported(project)["cinder"] == "/opt/own"

    hosts["hosts"]["ember"]["roles"]["workloads"] = {"environments": ["serving"]}
    pair.write_text(yaml.safe_dump(hosts))
    (project / "stacks/training.yaml").write_text(RUNS)
    assert imported(project)["cinder"] == "/opt/workloads"
