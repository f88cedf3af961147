"""The role device_plugin: its program, which registers at a stand-in of kubelet and is asked by it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.expect import eventually
from tests.support.our_roles import REPOSITORY

PROGRAM = "/usr/local/sbin/rackwright-device-plugin"
SECONDS = 60


def program() -> str:
    """Return the text of the program."""
    spec = RoleSpec(
        host="alpha",
        role="device_plugin",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables={},
    )
    return next(str(file.content) for file in promises(spec, REPOSITORY).files if file.file == PROGRAM)


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
    found = Kubelet(root)
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
    with kubelet.channel() as channel:
        watch = channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            lambda message: message.SerializeToString(),
            CLASSES["ListAndWatchResponse"].FromString,
        )
        answers = watch(CLASSES["Empty"](), timeout=SECONDS)
        assert listed(next(answers)) == {"0": "Healthy", "1:0": "Healthy"}
        (root / "dev/nvidia0").unlink()
        assert listed(next(answers)) == {"0": "Unhealthy", "1:0": "Healthy"}
        answers.cancel()
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
