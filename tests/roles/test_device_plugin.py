"""The role device_plugin: its program, which registers at a stand-in of kubelet and is asked by it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from rackwright.facts.facts import Facts
from rackwright.kinds.role.entries.gpus import GpuSetting
from rackwright.kinds.role.observe import observe_property
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.twin.gpu import state
from tests.support.expect import eventually
from tests.support.gpu_stand_in import MODELS, Host, stand_in
from tests.support.our_roles import REPOSITORY

PROGRAM, READER = "/usr/local/sbin/rackwright-device-plugin", "/usr/local/sbin/rackwright-gpu-health"
SECONDS = 60


def promised(*drivers: str) -> Promises:
    """Return what the role promises on a host whose accelerators have *drivers*."""
    spec = RoleSpec(
        host="alpha",
        role="device_plugin",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual", drivers=drivers),
        fleet=AboutFleet(name="lab"),
        variables={},
    )
    return promises(spec, REPOSITORY)


def program(path: str = PROGRAM) -> str:
    """Return the text of a program of the role."""
    return next(str(file.content) for file in promised().files if file.file == path)


MESSAGES: dict[str, Any] = {}
exec(compile(program().partition("CLASSES = classes()")[0] + "CLASSES = classes()", PROGRAM, "exec"), MESSAGES)
CLASSES = MESSAGES["CLASSES"]


class Kubelet(grpc.GenericRpcHandler):
    """The service at which plugins register, on a socket below *root*."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "var/lib/kubelet/device-plugins"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.registered: list[tuple[str, str]] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers([self])
        self.server.add_insecure_port(f"unix:{self.directory}/kubelet.sock")
        self.server.start()

    def service(self, details: Any) -> Any:
        def register(request: Any, context: Any) -> Any:
            self.registered.append((request.resource_name, request.endpoint))
            return CLASSES["Empty"]()

        return grpc.unary_unary_rpc_method_handler(
            register, CLASSES["RegisterRequest"].FromString, lambda message: message.SerializeToString()
        )

    def channel(self) -> grpc.Channel:
        """Return a channel to the plugin that registered last."""
        return grpc.insecure_channel(f"unix:{self.directory}/{self.registered[-1][1]}")


def write_specification(root: Path, *names: str, sort: str = "nvidia", kind: str = "nvidia.com/gpu") -> None:
    """Write a CDI specification with the devices *names*, as role container_runtime does."""
    devices = [
        {"name": name, "containerEdits": {"deviceNodes": [{"path": f"/dev/{sort}{name}"}]}} for name in (*names, "all")
    ]
    path = root / "etc/cdi" / f"{sort}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps({"kind": kind, "devices": devices}))
    path.with_suffix(".new").replace(path)
    (root / "dev").mkdir(exist_ok=True)
    for name in names:
        (root / "dev" / f"{sort}{name}").touch()


def write_health(root: Path, text: str) -> None:
    """Make the driver answer with *text*: the GPUs that work, as JSON."""
    path = root / READER.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(f"#!/bin/sh\necho '{text}'\n")
    path.with_suffix(".new").chmod(0o755)
    path.with_suffix(".new").replace(path)


@contextmanager
def watched(kubelet: Kubelet) -> Iterator[Iterator[Any]]:
    """Yield the lists of devices that the plugin sends, each after a change."""
    with kubelet.channel() as channel:
        watch = channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            lambda message: message.SerializeToString(),
            CLASSES["ListAndWatchResponse"].FromString,
        )
        answers = watch(CLASSES["Empty"](), timeout=SECONDS)
        yield answers
        answers.cancel()


@pytest.fixture
def root() -> Iterator[Path]:
    """Yield a directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="rw-") as directory:
        yield Path(directory)


@pytest.fixture
def kubelet(root: Path) -> Iterator[Kubelet]:
    """Yield a kubelet beside the running program."""
    path = root / "plugin"
    path.write_text(program())
    write_health(root, "null")
    found = Kubelet(root)
    # without the time between two questions to the driver
    path.write_text(path.read_text().replace("READER_SECONDS = 10", "READER_SECONDS = 0.1"))
    process = subprocess.Popen([sys.executable, str(path)], env={**os.environ, "ROOT": str(root)})
    try:
        yield found
    finally:
        process.kill()
        process.wait()
        found.server.stop(0)


def listed(answer: Any) -> dict[str, str]:
    return {device.ID: device.health for device in answer.devices}


def test_each_device_is_offered_once_and_allocated_by_its_name(root: Path, kubelet: Kubelet) -> None:
    """
    The device `all` of a specification is none of its own. A device that loses its node is unhealthy.
    """
    write_specification(root, "0", "1:0")
    eventually(lambda: bool(kubelet.registered), "the plugin registers", SECONDS)
    assert kubelet.registered == [("nvidia.com/gpu", "rackwright-nvidia.sock")]
    with watched(kubelet) as answers:
        assert listed(next(answers)) == {"0": "Healthy", "1:0": "Healthy"}
        (root / "dev/nvidia0").unlink()
        assert listed(next(answers)) == {"0": "Unhealthy", "1:0": "Healthy"}
    with kubelet.channel() as channel:
        allocate = channel.unary_unary(
            "/v1beta1.DevicePlugin/Allocate",
            lambda message: message.SerializeToString(),
            CLASSES["AllocateResponse"].FromString,
        )
        container = CLASSES["ContainerAllocateRequest"](devices_ids=["0", "1:0"])
        answer = allocate(CLASSES["AllocateRequest"](container_requests=[container]), timeout=SECONDS)
    [response] = answer.container_responses
    assert [device.name for device in response.cdi_devices] == ["nvidia.com/gpu=0", "nvidia.com/gpu=1:0"]


def test_it_registers_again_when_kubelet_has_restarted(root: Path, kubelet: Kubelet) -> None:
    """
    A kubelet that starts removes the sockets of all plugins.
    """
    write_specification(root, "0", sort="amd", kind="amd.com/gpu")
    eventually(lambda: bool(kubelet.registered), "the plugin registers", SECONDS)
    (kubelet.directory / kubelet.registered[0][1]).unlink()
    eventually(lambda: len(kubelet.registered) > 1, "the plugin registers again", SECONDS)

    assert kubelet.registered == [("amd.com/gpu", "rackwright-amd.sock")] * 2


def test_a_gpu_that_the_driver_has_lost_is_unhealthy_with_its_instances(root: Path, kubelet: Kubelet) -> None:
    """
    Its device node stays. Without an answer of the driver no GPU is healthy; devices of others depend on nodes alone.
    """
    write_health(root, '{"0": true, "1": true}')
    write_specification(root, "0", "1:0")
    eventually(lambda: bool(kubelet.registered), "the plugin registers", SECONDS)
    with watched(kubelet) as answers:
        assert listed(next(answers)) == {"0": "Healthy", "1:0": "Healthy"}
        write_health(root, '{"0": true, "1": false}')
        assert listed(next(answers)) == {"0": "Healthy", "1:0": "Unhealthy"}
        write_health(root, "")
        assert listed(next(answers)) == {"0": "Unhealthy", "1:0": "Unhealthy"}


def test_a_gpu_that_is_written_by_number_and_uuid_is_offered_once(root: Path, kubelet: Kubelet) -> None:
    """
    NVIDIA's toolkit does so since 1.16; its first versions write gpu0 for 0.
    """
    write_health(root, '{"0": true, "1": true}')
    write_specification(root, "gpu0", "1:0", "GPU-070ecf02-84e2-e6d2-7ea4-12075d4c1a14", "MIG-070ecf02-84e2")
    eventually(lambda: bool(kubelet.registered), "the plugin registers", SECONDS)
    with watched(kubelet) as answers:
        assert listed(next(answers)) == {"gpu0": "Healthy", "1:0": "Healthy"}


def test_the_health_of_each_gpu_is_what_the_driver_says(tmp_path: Path) -> None:
    reader = tmp_path / "reader"
    reader.write_text(program(READER))
    with stand_in() as root:
        host = Host(root)
        host.install("535.261.03")
        host.state.write_text(state.text("alpha", MODELS))

        def health() -> Any:
            environment = {**os.environ, "LD_LIBRARY_PATH": str(root)}
            done = subprocess.run([sys.executable, "-I", reader], env=environment, capture_output=True, check=True)
            return json.loads(done.stdout)

        assert health() == {"0": True, "1": True}
        host.edit(1, lost=1)
        assert health() == {"0": True, "1": False}
        host.remove(1, "lost")
        host.edit(0, nvmlDeviceGetTemperature=16)
        assert health() == {"0": False, "1": True}
        host.edit(1, nvmlDeviceGetTemperature=3)
        assert health() == {"0": False, "1": True}
        host.install(None)
        host.restart()
        assert health() == {}
        host.library.unlink()
        assert health() is None


def test_a_lost_gpu_is_reported_by_its_number() -> None:
    """
    It answers nothing else, not even for its place on the bus. On a host with other accelerators nothing is claimed.
    """
    unknown = {"unknown": "nvmlDeviceGetHandleByIndex_v2: GPU is lost"}
    working = {"index": 0, "condition": "working", "pci_address": "0000:10:00.0"}
    facts = Facts({"gpus": [working, {"index": 1, "condition": "lost", "pci_address": unknown}]})
    [entry] = [each for each in promised("nvidia_driver").entries if isinstance(each, GpuSetting)]
    claim = entry.claim(REPOSITORY)

    assert (claim.want, entry.by_hand) == ({"setting": ("working",)}, True)
    assert observe_property(facts, "gpu", "condition", "setting", claim) == ("lost on GPU 1", "working")
    assert not [each for each in promised("rocm").entries if isinstance(each, GpuSetting)]


def test_only_declared_gpus_are_offered_to_pods(root: Path) -> None:
    write_specification(root, "0", "1", "1:0", "2")
    write_specification(root, "gpu0", "gpu1", sort="amd", kind="amd.com/gpu")
    text = program()
    assert "GPUS = None\n" in text
    names = {"ROOT": str(root)}
    for gpus, expected in (("None", {"0", "1", "1:0", "2"}), ("[1]", {"1", "1:0"}), ("[]", set())):
        scope: dict[str, Any] = {"__name__": "plugin"}
        exec(compile(text.replace("GPUS = None", f"GPUS = {gpus}"), PROGRAM, "exec"), scope)
        scope |= names
        assert set(scope["devices"]("nvidia")[1]) == expected
