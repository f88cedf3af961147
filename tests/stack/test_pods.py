"""A stack whose runs are in pods: which resources they are, and what follows from their hosts."""

import json
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.kinds.pods import PodFilesKind, PodsKind, PodsSpec
from rackwright.stack import declare, load_stack
from rackwright.stack.gpus import assign
from tests.support.stack_settings import configure, new_project

HOSTS = Path(__file__).parents[1] / "fleet/wrong_runs/nodes.yaml"
RUNS = """\
fleet: training
uses: nodes.yaml
runs:
  digits:
    recipe: digits
    hosts: [oak, elm]
    on: kubernetes
    pods: {team: vision, count: 1, memory: 2GiB}
    checkpoints: {tier: warm}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    new_project(tmp_path, monkeypatch, {"nodes.yaml": HOSTS.read_text(), "training.yaml": RUNS})
    configure(tmp_path, "training", fleet="training.yaml", target="twin:lab")
    return tmp_path


def test_the_objects_come_after_the_files_of_all_hosts(project: Path) -> None:
    resources = {each.name: each for each in declare(load_stack("training", project))}

    assert {name: each.token for name, each in resources.items()} == {
        "oak/digits": PodFilesKind.token,
        "elm/digits": PodFilesKind.token,
        "plane/digits": PodsKind.token,
    }
    assert resources["plane/digits"].after == ("oak/digits", "elm/digits")


def test_the_world_of_a_run_has_its_pods_and_not_its_spare_hosts(project: Path) -> None:
    spec = next(each.spec for each in declare(load_stack("training", project)) if isinstance(each.spec, PodsSpec))
    run = spec.workload.run

    assert run is not None
    assert json.loads(run.config)["world"] == 1
    assert json.loads(run.config)["launcher"] == "torchrun"
    assert (spec.workload.count, spec.workload.hosts, spec.workload.memory) == (1, ("oak", "elm"), 2 << 30)


def test_pods_take_no_gpus_of_their_hosts_by_file(project: Path) -> None:
    """
    The device plugin of the cluster gives them some: a run on the hosts would have all of both.
    """
    path = project / "stacks" / "nodes.yaml"
    path.write_text(
        path.read_text().replace("    os: debian-12\n", "    os: debian-12\n    profile: inference-t4\n", 1)
    )
    runs = project / "stacks" / "training.yaml"

    assert assign(load_stack("training", project)) == ({}, [])

    plain = RUNS.replace("    on: kubernetes\n    pods: {team: vision, count: 1, memory: 2GiB}\n", "")
    runs.write_text(plain)
    with pytest.raises(DeclarationError, match="fabric"):
        load_stack("training", project)
    runs.write_text(plain.replace("hosts: [oak, elm]", "hosts: [oak]"))
    assignments, _ = assign(load_stack("training", project))
    assert [*assignments] == [("run-digits", "oak")]
