"""What containers are given, below a directory that stands for a machine."""

import json
import os

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import containers
from rackwright.facts.probe.observe import ReadError
from rackwright.facts.view import UnknownFact
from tests.support.fabricated_machine import FabricatedMachine

GPU = "nvidia.com/gpu"
SPEC = {
    "cdiVersion": "0.5.0",
    "kind": GPU,
    "devices": [{"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}}],
    "containerEdits": {
        "mounts": [{"hostPath": "/usr/lib/libcuda.so.535", "containerPath": "/usr/lib/libcuda.so.1"}],
        "hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}],
    },
}


@pytest.fixture
def machine(tmp_path):
    machine = FabricatedMachine(tmp_path)
    machine.write("etc/cdi/nvidia.json", json.dumps(SPEC))
    return machine


def seen(machine: FabricatedMachine) -> Facts:
    return Facts({"cdi": containers.cdi(machine.top), "images": containers.images(machine.top)})


def test_a_specification_says_what_it_names_and_what_of_that_is_not_there(machine):
    machine.write("usr/bin/nvidia-cdi-hook", "")
    [found] = seen(machine).cdi(GPU)

    assert (found.path, found.devices) == ("/etc/cdi/nvidia.json", ("0",))
    assert found.missing_files == ("/usr/lib/libcuda.so.535",)
    assert found.missing_devices == ("/dev/nvidia0",)
    assert seen(machine).cdi("amd.com/gpu") == ()


def test_a_node_has_to_be_found_by_its_number_too(machine):
    """
    systemd looks for it there when it reads its units anew, and takes away what it does not find.
    """
    (machine.root / "dev/nvidia0").symlink_to("/dev/null")
    assert seen(machine).cdi(GPU)[0].missing_devices == ("/dev/char/1:3",)
    (machine.root / "dev/char").mkdir()
    (machine.root / "dev/char/1:3").symlink_to("../nvidia0")

    assert os.path.lexists(machine.root / "dev/char/1:3")
    assert seen(machine).cdi(GPU)[0].missing_devices == ()


@pytest.mark.parametrize("line", [f"kind: {GPU}", f'kind: "{GPU}"', f'"kind": {GPU}'])
def test_of_yaml_the_kind_is_known_and_nothing_else(machine, line):
    machine.write("run/cdi/other.yaml", f"---\ncdiVersion: 0.5.0\n{line}\ndevices: []\n")
    _, other = seen(machine).cdi(GPU)

    assert other.path == "/run/cdi/other.yaml"
    with pytest.raises(UnknownFact, match="is YAML; the probe reads only its kind"):
        print(other.devices)


def test_what_cannot_be_read_may_be_of_any_kind(machine):
    machine.write("etc/cdi/broken.json", "{}")

    with pytest.raises(UnknownFact):
        seen(machine).cdi("amd.com/gpu")


def test_without_folders_no_package_provides_a_file(tmp_path):
    machine = FabricatedMachine(tmp_path)

    assert seen(machine).cdi(GPU) == ()
    assert seen(machine).images("podman") == seen(machine).images("containerd") == ()


LIST, OWN, OTHER = (f"sha256:{letter * 64}" for letter in "abc")
IMAGE = {
    "id": "0" * 64,
    "digest": LIST,
    "names": ["docker.io/nvidia/cuda@sha256:" + "a" * 64],
    "big-data-digests": {f"manifest-{OWN}": OWN, f"manifest-{LIST}": LIST, f"sha256:{'d' * 64}": "…", "manifest": LIST},
}


def test_podmans_images_go_by_the_digest_of_their_list_and_by_their_own(machine):
    machine.write("var/lib/containers/storage/overlay-images/images.json", json.dumps([IMAGE]))
    machine.write("var/lib/containers/storage/overlay-containers/containers.json", "[]")
    [image] = seen(machine).images("podman")

    assert [image.matches(f"docker.io/nvidia/cuda@{digest}") for digest in (LIST, OWN, OTHER)] == [True, True, False]


def test_an_image_without_a_digest_goes_by_its_name(machine):
    made = {"id": "1" * 64, "digest": OWN, "names": ["localhost/digits:0123"]}
    machine.write("var/lib/containers/storage/vfs-images/images.json", json.dumps([made]))
    [image] = seen(machine).images("podman")

    assert image.matches("localhost/digits:0123")
    assert not image.matches("localhost/digits:4567")


def test_containerds_images_are_asked_for_by_namespace(machine, monkeypatch):
    machine.write("run/containerd/containerd.sock", "")
    answers = {
        ("namespaces", "list"): "NAME    LABELS \ndefault        \nk8s.io         \n",
        ("--namespace", "default", "images", "list"): "REF TYPE DIGEST SIZE PLATFORMS LABELS \n",
        ("--namespace", "k8s.io", "images", "list"): "REF TYPE DIGEST SIZE PLATFORMS LABELS \n"
        f"quay.io/x:1 application/vnd.oci.image.manifest.v1+json {OWN} 2.1 MiB linux/amd64 -      \n",
    }
    monkeypatch.setattr(containers, "run_tool", lambda program, *arguments: answers[arguments])
    [image] = seen(machine).images("containerd")

    assert image.names == ("quay.io/x:1",)
    assert image.matches(f"quay.io/x@{OWN}")


def test_an_engine_that_does_not_answer_leaves_the_others_known(machine, monkeypatch):
    def refuse(*argv: str) -> str:
        raise ReadError("ctr ended with 1")

    machine.write("run/containerd/containerd.sock", "")
    monkeypatch.setattr(containers, "run_tool", refuse)

    assert seen(machine).images("podman") == ()
    with pytest.raises(UnknownFact, match="ctr ended with 1"):
        seen(machine).images("containerd")
