"""Which GPUs of a host each run and server has, and what is refused before any host is asked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.stack import declare, load_stack
from tests.support.stack_settings import configure, new_project

HOSTS = """\
fleet: hosts
hosts:
  pair: {profile: training-a100, os: debian-12, address: 10.41.0.11, identity: {serial: RV-11}, tiers: TIERS}
  other: {profile: training-a100, os: debian-12, address: 10.41.0.12, identity: {serial: RV-12}, tiers: TIERS}
  instinct: {profile: training-mi300x, os: debian-12, address: 10.41.0.13, identity: {serial: RV-13}, tiers: TIERS}
  plain: {profile: virtual, os: debian-12, address: 10.41.0.14, identity: {serial: RV-14}, tiers: TIERS}
""".replace("TIERS", "{warm: {provided: true, mount: /srv/warm}}")
FIRST, SECOND = "GPU-00000000-0000-0000-0000-000000000001", "GPU-00000000-0000-0000-0000-000000000002"
Assigned = dict[str, tuple[str, ...] | None]
EXPECTED = "runs and servers that share a host declare which of its GPUs each has"


def server(name: str, gpus: str = "", hosts: str = "pair", port: int = 8080) -> str:
    vllm = f"{{tensor_parallel: 1{f', gpus: {gpus}' if gpus else ''}}}"
    return (
        f"  {name}: {{model: {{version: 0123456789ab}}, hosts: [{hosts}], anybody: true, listen: everywhere, "
        f"port: {port}, gate: {{accuracy_kept: null}}, vllm: {vllm}}}\n"
    )


def run(name: str, gpus: str = "", hosts: str = "pair", more: str = "") -> str:
    named = f", gpus: {gpus}" if gpus else ""
    return f"  {name}: {{recipe: digits, hosts: [{hosts}], checkpoints: {{tier: warm}}{named}{more}}}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Assigned]:
    """Return what declares servers and runs, and returns the GPUs of each."""
    stacks = new_project(tmp_path, monkeypatch, {"hosts.yaml": HOSTS}) / "stacks"
    configure(tmp_path, "work", fleet="work.yaml", target="twin:lab")

    def assigned(servers: str = "", runs: str = "") -> Assigned:
        text = "fleet: work\nuses: hosts.yaml\n"
        text += f"servers:\n{servers}" if servers else ""
        (stacks / "work.yaml").write_text(text + (f"runs:\n{runs}" if runs else ""))
        found = {each.name: getattr(each.spec, "gpus", None) for each in declare(load_stack("work", tmp_path))}
        return {name: gpus and gpus.gpus for name, gpus in found.items()}

    return assigned


def refused(project: Callable[..., Assigned], *declared: str) -> str:
    with pytest.raises(DeclarationError) as error:
        project(*declared)
    return str(error.value)


def test_a_run_alone_has_all_gpus_of_its_host(project) -> None:
    assert project("", run("digits")) == {"pair/digits": ("0", "1", "2", "3")}
    assert project("", run("digits", hosts="plain")) == {"plain/digits": None}
    assert project("", run("digits", more=", set: {device: cpu}")) == {"pair/digits": None}


def test_counts_take_what_indices_leave_free(project) -> None:
    assert project(server("talk", "2") + server("chat", "[0]", port=8081), run("digits", "1")) == {
        "pair/digits": ("3",), "pair/talk": ("1", "2"), "pair/chat": ("0",),
    }  # fmt: skip


def test_a_run_and_a_server_of_a_host_declare_their_gpus(project) -> None:
    message = refused(project, server("talk"), run("digits", "1"))
    assert f"servers.talk: got pair, which digits has; {EXPECTED}. Declare vllm.gpus of talk" in message
    message = refused(project, server("talk", "1"), run("digits"))
    assert f"runs.digits: got pair, which talk has; {EXPECTED}. Declare gpus of digits" in message
    assert project(server("talk", hosts="other"), run("digits")), "on different hosts they share nothing"


def test_two_runs_may_have_the_gpus_of_a_host_in_turn(project) -> None:
    """
    A host may have one GPU alone.
    """
    message = refused(project, "", run("digits") + run("letters"))
    assert (
        "Declare gpus of letters, or choose hosts that digits does not have, or declare letters once digits" in message
    )
    message = refused(project, "", run("digits", "[0]") + run("letters", "[0]"))
    assert message.endswith("Name other GPUs, or declare letters once digits has ended.")
    assert "once" not in refused(project, server("talk", "[0]"), run("digits", "[0]"))


@pytest.mark.parametrize(
    ("talk", "digits", "message"),
    [
        ("[0, 1]", "[1]", "runs.digits.gpus: got GPU 1 of pair, which talk has; a GPU has one run or server"),
        ("3", "2", "runs.digits.gpus: got 2 GPUs of pair, after 3 of others; 4 GPUs in all"),
        ("[4]", "1", "servers.talk.vllm.gpus: got GPU 4 of pair; the last of 4 GPUs has the index 3"),
        ("5", "1", "servers.talk.vllm.gpus: got 5 GPUs of pair; 4 GPUs in all"),
        (f"[{FIRST}]", f"[{FIRST}]", f"runs.digits.gpus: got GPU {FIRST} of pair, which talk has"),
        (f"[{FIRST}]", "1", "runs.digits.gpus: got 1; all runs and servers of pair name GPUs by UUID, or none"),
        ("[0, 0]", "1", "got 0 twice; a GPU is named once"),
        (f"[0, {FIRST}]", "1", "all GPUs are named by index, or all by UUID"),
        ("[GPU-1]", "1", "got 'GPU-1'; the number of GPUs, a list of their indices, or a list of their UUIDs"),
        ("0", "1", "got 0; the number of GPUs"),
        ("[]", "1", "got []; the number of GPUs"),
    ],
)
def test_no_two_have_one_gpu(project, talk: str, digits: str, message: str) -> None:
    assert message in refused(project, server("talk", talk), run("digits", digits))


def test_uuids_belong_to_one_host_of_nvidia(project) -> None:
    assert project(server("talk", f"[{FIRST}]"), run("digits", f"[{SECOND}]")) == {
        "pair/digits": (SECOND,), "pair/talk": (FIRST,),
    }  # fmt: skip
    assert "got UUIDs and 2 hosts; a GPU with a UUID is in one host" in refused(
        project, server("talk", f"[{FIRST}]", "pair, other")
    )
    assert "got UUIDs, and instinct has other GPUs" in refused(project, server("talk", f"[{FIRST}]", "instinct"))


def test_each_process_has_a_gpu(project) -> None:
    message = "runs.digits.gpus: got 1 GPUs for 2 processes; each process has its own GPU"
    assert message in refused(project, "", run("digits", "1", more=", processes: 2"))


NODES = """\
fleet: hosts
groups:
  nodes:
    profile: training-a100
    os: debian-12
    tiers: {warm: {provided: true, mount: /srv/warm}}
    roles: {base: {}, container_runtime: {engine: containerd, version: 2.4.2}, nvidia_driver: {MORE}}
hosts:
  pair:
    group: nodes
    address: 10.41.0.11
    identity: {serial: RV-11}
    roles: {kubernetes_node: {address: 10.41.0.11, pod_network: 10.244.1.0/24}, device_plugin: {PLUGIN}}
  other: {group: nodes, address: 10.41.0.12, identity: {serial: RV-12}}
"""


def on_nodes(project: Callable[..., Assigned], tmp_path: Path, plugin: str = "", more: str = "") -> None:
    text = NODES.replace("PLUGIN", plugin).replace("MORE", more)
    (tmp_path / "stacks" / "hosts.yaml").write_text(text)


@pytest.mark.parametrize("declared", [(server("talk"), ""), ("", run("digits")), (server("talk", "[0]"), "")])
def test_a_run_or_server_has_no_gpu_that_pods_have(project, tmp_path: Path, declared: tuple[str, str]) -> None:
    on_nodes(project, tmp_path)
    message = refused(project, *declared)
    assert "stacks/work.yaml:4: " in message
    assert "got pair, whose GPUs pods have; role device_plugin gives the GPUs of its host to the pods" in message
    assert "Write `on: kubernetes` for " in message
    assert "or declare the GPUs of pods in roles.device_plugin.gpus of pair" in message
    assert message.count("pair, whose GPUs") == 1


def test_pods_share_a_host_with_a_server_by_index(project, tmp_path: Path) -> None:
    on_nodes(project, tmp_path, "gpus: [0, 1]")
    assert project(server("talk", "2")) == {"pair/talk": ("2", "3")}
    assert project(server("talk", "[2]"), run("digits", "1")) == {"pair/digits": ("3",), "pair/talk": ("2",)}
    on_nodes(project, tmp_path, "gpus: []")
    assert project("", run("digits")) == {"pair/digits": ("0", "1", "2", "3")}


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ("[1, 2]", "servers.talk.vllm.gpus: got GPU 1 of pair, which pods have; role device_plugin of pair gives 0, 1"),
        ("3", "servers.talk.vllm.gpus: got 3 GPUs of pair, after 2 of others; 4 GPUs in all"),
        ("", "servers.talk: got pair, whose GPUs pods share; pods have 0, 1 of 4 GPUs, so talk declares which it has"),
        (f"[{FIRST}]", "servers.talk.vllm.gpus: got UUIDs; pods have GPUs by index"),
    ],
)
def test_an_overlap_with_pods_is_refused(project, tmp_path: Path, gpus: str, message: str) -> None:
    on_nodes(project, tmp_path, "gpus: [0, 1]")
    assert message in refused(project, server("talk", gpus))


def test_mig_divides_gpus_for_pods_alone(project, tmp_path: Path) -> None:
    on_nodes(project, tmp_path, more="mig: [3g.40gb, 3g.40gb]")
    assert "got pair, whose GPUs pods have" in refused(project, server("talk"))


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ("gpus: [4]", "device_plugin.gpus: got GPU 4; the last of 4 GPUs has the index 3"),
        ("gpus: [0, 0]", "device_plugin.gpus: got 0, 0; each GPU is named once"),
        ("gpus: [-1]", "device_plugin.gpus"),
    ],
)
def test_the_gpus_of_pods_are_those_of_the_host(project, tmp_path: Path, plugin: str, message: str) -> None:
    on_nodes(project, tmp_path, plugin)
    configure(tmp_path, "hosts", fleet="hosts.yaml", target="twin:lab")
    with pytest.raises(DeclarationError) as error:
        declare(load_stack("hosts", tmp_path))
    assert message in str(error.value)


# --- another stack of the project on the same hosts


@pytest.fixture
def neighbour(tmp_path: Path, project: Callable[..., Assigned]) -> Callable[..., None]:
    """Return what declares runs and servers of another stack, with hosts of the same fleet by default."""

    def declared(servers: str = "", runs: str = "", uses: str = "hosts.yaml", target: str = "twin:lab") -> None:
        configure(tmp_path, "night", fleet="night.yaml", target=target)
        text = f"fleet: night\nuses: {uses}\n" + (f"servers:\n{servers}" if servers else "")
        (tmp_path / "stacks/night.yaml").write_text(text + (f"runs:\n{runs}" if runs else ""))

    return declared


@pytest.mark.parametrize(
    ("own", "theirs", "message"),
    [
        (
            "",
            "[1]",
            "got pair, which letters of stack night has; runs and servers of two stacks that share",
        ),
        ("2", "[3]", "Name the GPUs in vllm.gpus of talk, or choose hosts that letters does not have"),
        ("[0]", "", "Name the GPUs in gpus of letters of stack night, or choose hosts"),
        ("[0]", "1", "Name the GPUs in gpus of letters of stack night, or choose hosts"),
        (
            "[0, 1]",
            "[1, 2]",
            "servers.talk.vllm.gpus: got GPU 1 of pair, which letters of stack night has",
        ),
        (f"[{FIRST}]", "[1]", "all runs and servers of pair name GPUs by UUID, or none"),
        (f"[{FIRST}]", f"[{FIRST}]", f"got GPU {FIRST} of pair, which letters of stack night has"),
    ],
)
def test_two_stacks_share_no_gpu(project, neighbour, own: str, theirs: str, message: str) -> None:
    neighbour("", run("letters", theirs))

    assert message in refused(project, server("talk", own))


def test_stacks_may_share_a_host(project, neighbour) -> None:
    neighbour("", run("letters", "[2, 3]"))
    assert project(server("talk", "[0, 1]")) == {"pair/talk": ("0", "1")}
    neighbour("", run("letters", hosts="other"))
    assert project(server("talk")) == {"pair/talk": ("0", "1", "2", "3")}


def test_a_stack_of_other_hosts_or_with_errors_is_no_neighbour(project, neighbour, tmp_path: Path) -> None:
    (tmp_path / "stacks/others.yaml").write_text(HOSTS.replace("fleet: hosts", "fleet: others"))
    for more in ({"uses": "others.yaml"}, {"target": "twin:other"}):
        neighbour("", run("letters"), **more)
        assert project(server("talk"))
    neighbour("", run("letters", "[99"))
    assert project(server("talk"))
