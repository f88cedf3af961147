"""The role container_runtime on a host of a twin: packages, registries, images and what containers are given."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.driver_install import LIBRARIES, VERSION, libraries_script
from tests.support.expect import eventually
from tests.support.lab import Lab, format_claims
from tests.support.log import Log

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
]
HOST = "alpha"
ROLE = f"{HOST}/container_runtime"
GPU = "cdi:nvidia.com/gpu"
REGISTRY = "registry.example"
APP = "from http.server import HTTPServer, SimpleHTTPRequestHandler as H\nHTTPServer(('', 8080), H).serve_forever()\n"
STORAGE = '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
"""A container of the twin may not make what overlay needs."""
ANYBODY = json.dumps(
    {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": "/var/lib/docker-registry"}},
        "http": {"addr": "127.0.0.1:5000"},
    }
)
"""The configuration of a registry that asks nobody who they are."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A host with two GPUs, a driver as far as its libraries go, and the role with its defaults."""
    directory = tmp_path_factory.mktemp("runtime")
    roles: dict[str, Any] = {"base": {"security_updates": False}, "container_runtime": {}}
    host = {"address": "192.0.2.1", "identity": {"serial": "S-ALPHA"}, "os": "debian-12", "profile": "training-a40"}
    storage = {"rule": "RW-072", "thing": "file:/etc/containers/storage.conf", "reason": "the twin", "owner": "tests"}
    libraries = ("file:/usr/lib/x86_64-linux-gnu/*", "file:/etc/alternatives/nvidia--*")  # of no package
    registry = {**storage, "rule": "RW-083", "thing": "file:/etc/docker/registry/config.yml"}
    allowed = (storage, registry, *({**storage, "rule": "RW-080", "thing": each} for each in libraries))
    allow = [{**each, "expires": "2099-12-31"} for each in allowed]
    fleet = json.dumps({"fleet": "runtime", "hosts": {HOST: {**host, "roles": roles}}, "allow": allow})
    with Lab(directory / "project", fleet, Log("runtime"), containers=[HOST], mirrors=True) as lab:
        lab.start()
        lab.ssh(HOST, f"mkdir -p /etc/containers; cat > /etc/containers/storage.conf <<'END'\n{STORAGE}END")
        lab.ssh(HOST, libraries_script(directory, VERSION))
        lab.create()
        yield lab


def role(lab: Lab, **variables: Any) -> None:
    lab.edit(lambda fleet: fleet["hosts"][HOST]["roles"]["container_runtime"].update(variables))


def published(lab: Lab) -> str:
    """Let the host have a registry, and in it an image; return that by its digest, as if it were another host's."""
    lab.ssh(HOST, "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install docker-registry")
    lab.ssh(HOST, f"echo '{ANYBODY}' > /etc/docker/registry/config.yml; systemctl restart docker-registry.service")
    lab.ssh(HOST, "tar -c -C / etc/hostname | podman import --quiet - localhost/base:1")
    push = "podman push --quiet --tls-verify=false --digestfile /tmp/digest localhost/base:1 127.0.0.1:5000/base:1"
    eventually(lambda: lab.ssh(HOST, f"{push} && echo done", status=None).endswith("done"), "the registry takes it")
    lab.ssh(HOST, "podman rmi --all --force")
    return f"{REGISTRY}/base@{lab.ssh(HOST, 'cat /tmp/digest')}"


def test_there_is_an_engine_and_its_gpus_have_their_names(lab: Lab) -> None:
    """
    As podman sees it itself; nothing is left to do.
    """
    assert lab.audit_differences(status=0) == set()
    assert (
        lab.ssh(HOST, "podman info --format '{{.Host.CgroupManager}} {{.Host.NetworkBackend}}'") == "systemd netavark"
    )
    found = json.loads(lab.ssh(HOST, "cat /etc/cdi/nvidia.json"))
    assert [device["name"] for device in found["devices"]] == ["0", "1", "all"]
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in found["containerEdits"]["mounts"]}
    assert mounts[f"{LIBRARIES}/libcuda.so.1"] == f"{LIBRARIES}/nvidia/current/libcuda.so.535.261.03"


def test_podman_takes_the_specification(lab: Lab) -> None:
    """
    A device that it does not name is unknown to it; of one that it names, the node is what is missing.
    """
    run = "podman run --rm --device nvidia.com/gpu={} --rootfs /var/empty true 2>&1 || true"
    lab.ssh(HOST, "mkdir -p /var/empty")

    assert "unresolvable CDI devices nvidia.com/gpu=7" in lab.ssh(HOST, run.format(7))
    assert "/dev/nvidia" in lab.ssh(HOST, run.format(0))


def test_other_libraries_are_reported_by_the_host_itself(lab: Lab, tmp_path: Path) -> None:
    """
    Without anybody's `up`: a driver that is changed under the specification is found, and soon no more.
    """
    lab.ssh(HOST, "systemctl stop rackwright-cdi.path")
    lab.ssh(HOST, libraries_script(tmp_path, "535.309.01"))
    assert (ROLE, GPU) in lab.audit_differences()
    lab.ssh(HOST, "systemctl start rackwright-cdi.path; touch /etc/ld.so.conf; ldconfig")

    names = "grep -c libcuda.so.535.309.01 /etc/cdi/nvidia.json"
    eventually(lambda: lab.ssh(HOST, names, status=None) == "1", "the specification names the new driver's library")
    assert lab.audit_differences(status=0) == set()


def test_an_image_comes_from_the_mirror_and_another_is_built_on_it(lab: Lab) -> None:
    base = published(lab)
    definition = {"name": "digits", "base": base, "app": APP, "requirements": "", "packages": []}
    role(lab, registries=[{"name": REGISTRY, "mirrors": ["http://127.0.0.1:5000"]}], definitions=[definition])
    role(lab, version="4.3.1", pull=True, build=True)
    lab.apply()

    assert lab.audit_differences(status=0) == set()
    [name] = lab.ssh(HOST, "podman images --format '{{.Repository}}:{{.Tag}}' | grep ^localhost/digits:").split()
    shown = json.loads(lab.ssh(HOST, f"podman image inspect {name}"))[0]
    assert (shown["User"], list(shown["Config"]["ExposedPorts"])) == ("10001:10001", ["8080/tcp"])
    assert "http://127.0.0.1:8080/health" in shown["Healthcheck"]["Test"][-1]


BROKEN = {
    "package:podman": "apt-mark unhold podman",
    "file:/etc/apt/preferences.d/60-rackwright-container-runtime": "rm /etc/apt/preferences.d/60-rackwright-container*",
    "file:/etc/containers/containers.conf.d/60-rackwright.conf": "rm -r /etc/containers/containers.conf.d",
    "file:/etc/containers/registries.conf.d/60-rackwright.conf": "rm /etc/containers/registries.conf.d/60-*",
    "unit:podman.socket": "systemctl enable --now podman.socket",
    "unit:podman.service": "systemctl enable podman.service",
    "unit:podman-auto-update.timer": "systemctl enable podman-auto-update.timer",
    "unit:podman-auto-update.service": "systemctl enable podman-auto-update.service",
    "file:/usr/local/sbin/rackwright-cdi": "chmod 0644 /usr/local/sbin/rackwright-cdi",
    "file:/etc/systemd/system/rackwright-cdi.service": "echo >> /etc/systemd/system/rackwright-cdi.service",
    "file:/etc/systemd/system/rackwright-cdi.path": "echo >> /etc/systemd/system/rackwright-cdi.path",
    "file:/etc/udev/rules.d/71-rackwright-cdi.rules": "rm /etc/udev/rules.d/71-rackwright-cdi.rules",
    "unit:rackwright-cdi.service": "systemctl disable rackwright-cdi.service",
    "unit:rackwright-cdi.path": "systemctl stop rackwright-cdi.path",
    GPU: 'sed \'s/"0"/"9"/\' /etc/cdi/nvidia.json > /etc/cdi/by-hand.yaml; rm /etc/cdi/nvidia.json',
    "file:/etc/cdi/amd.json": 'echo \'{"kind": "amd.com/gpu", "devices": []}\' > /etc/cdi/amd.json',
    "file:/opt/rackwright/images/digits/Containerfile": "echo USER root >> /opt/rackwright/images/digits/Containerfile",
    "file:/opt/rackwright/images/digits/app.py": "rm /opt/rackwright/images/digits/app.py",
}
"""By claim of the role what breaks it; images beside."""


def test_each_promise_that_is_broken_is_found_under_its_path_and_mended(lab: Lab) -> None:
    # the units themselves would be stale as well without the last command
    lab.ssh(HOST, "\n".join([*BROKEN.values(), "podman rmi --all --force", "systemctl daemon-reload"]))
    found = lab.audit_differences()
    images = sorted(claim for _, claim in found if claim.startswith("image:"))
    others = {each for each in found if each[1] not in images}
    wanted = {(ROLE, claim) for claim in BROKEN}
    assert others == wanted, f"missed {format_claims(wanted - others)}; found besides {format_claims(others - wanted)}"
    assert [image.partition("/")[0] for image in images] == ["image:localhost", f"image:{REGISTRY}"]
    lab.apply()

    assert lab.audit_differences(status=0) == set()
    assert lab.ssh(HOST, "ls /etc/cdi /var/lib/rackwright/aside/etc/cdi").split() == [
        *("/etc/cdi:", "nvidia.json", "/var/lib/rackwright/aside/etc/cdi:", "by-hand.yaml"),
    ]
