"""A pod of a group: its place in the replica, from the variables of LeaderWorkerSet."""

import os
import signal

import pytest

from workloads.errors import UserError
from workloads.serving import group
from workloads.serving.group import main, replica
from workloads.serving.vllm_settings import VllmSettings, arguments, environment

VARIABLES = {
    "LWS_LEADER_ADDRESS": "racks-replica-1.racks-replica.vision",
    "LWS_GROUP_SIZE": "3",
    "LWS_WORKER_INDEX": "0",
    "POD_IP": "10.244.2.7",
}


def test_a_worker_finds_the_leader_by_its_name_and_listens_on_its_own_address() -> None:
    place = replica({**VARIABLES, "LWS_WORKER_INDEX": "2"}, 29500, "eth0", "/key")

    assert (place.leader, place.rank) == ("racks-replica-1.racks-replica.vision", 2)
    assert place.addresses[1:] == ("racks-replica-1-1.racks-replica.vision", "10.244.2.7")
    settings = VllmSettings(replica=place)
    line = " ".join(arguments(settings, 3))
    assert "--nnodes 3" in line and "--node-rank 2" in line and line.endswith("--headless")
    assert "--master-addr racks-replica-1.racks-replica.vision --master-port 29500" in line
    assert environment(settings)["VLLM_HOST_IP"] == "10.244.2.7"


def test_a_leader_listens_on_its_own_address_alone() -> None:
    """
    Its name leads to a pod that was there before, until the name is new.
    """
    place = replica(VARIABLES, 29500, "eth0", "/key")
    assert (place.leader, place.rank, len(place.addresses)) == ("10.244.2.7", 0, 3)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"LWS_LEADER_ADDRESS": "", "POD_IP": ""}, "variables are missing: LWS_LEADER_ADDRESS, POD_IP"),
        ({"LWS_WORKER_INDEX": "3"}, "got LWS_GROUP_SIZE=3 and LWS_WORKER_INDEX=3"),
        ({"LWS_GROUP_SIZE": "1"}, "got LWS_GROUP_SIZE=1 and LWS_WORKER_INDEX=0"),
        ({"LWS_GROUP_SIZE": "many"}, "got LWS_GROUP_SIZE=many and LWS_WORKER_INDEX=0"),
    ],
)
def test_a_process_that_is_no_pod_of_a_group_is_refused(changes: dict[str, str], problem: str) -> None:
    with pytest.raises(UserError) as error:
        replica({**VARIABLES, **changes}, 29500, "eth0", "/key")
    assert error.value.diagnostic.problem == problem


def test_the_command_needs_the_variables(tmp_path, capsys, monkeypatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    arguments = ["--port", "29500", "--interface", "eth0", "--key", "/key"]
    assert main([str(tmp_path), *arguments, "--set", "anybody=true"]) == 2
    assert "variables are missing" in capsys.readouterr().err


def test_a_pod_that_waits_for_the_others_ends_on_request(tmp_path, monkeypatch) -> None:
    """
    The kernel sends no signal without a handler to the first process of a container.
    """
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(group, "start", lambda directory, settings: os.kill(os.getpid(), signal.SIGTERM))
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    arguments = ["--port", "29500", "--interface", "eth0", "--key", "/key", "--set", "anybody=true"]
    try:
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path), *arguments])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
