"""A stack whose runs are in pods: which resources they are, and what follows from their hosts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.kinds.pods import PodFilesKind, PodsKind, PodsSpec
from rackwright.kinds.pods.spec import GRPC_PORT, WorkloadPart
from rackwright.stack import declare, load_stack
from rackwright.stack.gpus import assign
from tests.support.stack_settings import configure, new_project
from workloads.catalogue.models import model_config
from workloads.serving import model as model_directory
from workloads.serving.fit import computed_tensors, sizes
from workloads.serving.fit.shape import shape_of

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


TALK = """\
fleet: training
uses: nodes.yaml
servers:
  talk:
    model: {path: models/talk}
    hosts: [oak, elm]
    on: kubernetes
    pods: {team: vision, gpus: 8}
    anybody: true
    gate: {accuracy_kept: null}
    vllm: {replica_hosts: 2}
"""
NODES = (
    HOSTS.read_text()
    .replace("{cpus: 4, memory: 16GiB}", "{cpus: 4, memory: 16GiB, gpus: 32, slice: 1}")
    .replace("    teams:", "    groups: true\n    teams:")
    .replace("    os: debian-12\n", "    os: debian-12\n    profile: training-h100\n", 1)
)
R1 = sizes(model_config("deepseek-r1"), computed_tensors(shape_of(model_config("deepseek-r1")))).as_data()


@pytest.fixture
def talk(project: Path) -> Callable[[str], WorkloadPart]:
    """Return what declares a language model as big as R1, and returns its server in pods."""
    (project / "stacks" / "nodes.yaml").write_text(NODES)
    (project / "weights").write_bytes(b"weights")
    weights = {"model.safetensors": project / "weights"}
    model_directory.publish(project / "models" / "talk", weights, "talk", (), (), {"sizes": R1}, runtime="vllm")

    def declared(server: str) -> WorkloadPart:
        (project / "stacks" / "training.yaml").write_text(server)
        resources = declare(load_stack("training", project))
        return next(each.spec.workload for each in resources if isinstance(each.spec, PodsSpec))

    return declared


def test_a_model_is_divided_over_the_gpus_of_the_pods_of_a_replica(talk: Callable[[str], WorkloadPart]) -> None:
    workload = talk(TALK)
    server = workload.server

    assert server is not None
    assert (server.replica_pods, server.replica_port, server.lease_secret) == (2, 29500, "training_key")
    assert server.settings["tensor_parallel"] * server.settings["vllm"]["pipeline_parallel"] == 16
    assert workload.server_object == "LeaderWorkerSet/talk-replica"


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        (TALK.replace("gpus: 8", "gpus: 9").replace("gpus: 16", ""), "got 9 GPUs for a pod"),
        (TALK.replace(", gpus: 8", ""), "got no gpus"),
        (TALK.replace("    vllm: {replica_hosts: 2}\n", ""), "do not fit|does not fit|needs"),
    ],
    ids=["more than a host has", "none", "too large for one pod"],
)
def test_a_model_that_does_not_fit_its_pods_is_refused(
    talk: Callable[[str], WorkloadPart], server: str, problem: str
) -> None:
    with pytest.raises(DeclarationError, match=problem):
        talk(server)


def test_vllm_in_pods_of_a_team_without_a_slice_is_refused(talk: Callable[[str], WorkloadPart], project: Path) -> None:
    """
    Pods of all other teams would reach the ports that vLLM opens without keys, those of one pod as well.
    """
    (project / "stacks" / "nodes.yaml").write_text(NODES.replace(", slice: 1", ""))
    alone = TALK.replace("{replica_hosts: 2}", "{tensor_parallel: 1, cpu_cache_gib: 1}").replace(", gpus: 8", "")
    for server in (alone, TALK.replace("    vllm: {replica_hosts: 2}\n", "")):
        with pytest.raises(DeclarationError, match="got team vision, which has no slice"):
            talk(server)


def test_a_pod_on_processors_has_the_declared_layout(talk: Callable[[str], WorkloadPart]) -> None:
    small = TALK.replace(", gpus: 8", "").replace("{replica_hosts: 2}", "{tensor_parallel: 1, cpu_cache_gib: 1}")
    workload = talk(small)
    assert workload.server is not None
    assert (workload.server.replica_pods, workload.server.lease_secret, workload.server.vllm) == (1, None, True)
    assert workload.server.settings["vllm"] == {"cpu_cache_gib": 1}


def test_grpc_listens_at_a_port_of_the_pods_and_the_service_has_the_declared_one(project: Path) -> None:
    declared = "  plain:\n    model: {version: 0123456789ab}\n    grpc_port: 9000\n    hosts: [oak, elm]\n"
    more = "    on: kubernetes\n    pods: {team: vision}\n    anybody: true\n    gate: {accuracy_kept: null}\n"
    (project / "stacks" / "training.yaml").write_text(f"fleet: training\nuses: nodes.yaml\nservers:\n{declared}{more}")
    [spec] = [each.spec for each in declare(load_stack("training", project)) if isinstance(each.spec, PodsSpec)]

    server = spec.workload.server
    assert server is not None
    assert (server.grpc_port, server.settings["grpc_port"]) == (9000, GRPC_PORT)
