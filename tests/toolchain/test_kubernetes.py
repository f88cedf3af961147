"""The packages and images of a cluster, made of small files in the place of the programs."""

import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from rackwright.errors import SetupError
from rackwright.lock import store
from rackwright.toolchain.kubernetes import images, packages, pins, programs
from rackwright.toolchain.kubernetes.images import Image
from rackwright.toolchain.kubernetes.packages import Package
from tests.support.log import ROOT

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is on Debian and its derivatives")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "kubelet"
    path.write_bytes(b"\x7fELF" + b"program" * 100)
    return path


def test_versions_are_those_of_the_modules() -> None:
    for source, module, version in (
        (programs.KUBERNETES, "k8s.io/kubernetes", pins.KUBERNETES),
        (programs.PREVIOUS, "k8s.io/kubernetes", pins.PREVIOUS),
        (programs.ETCD, "go.etcd.io/etcd/server/v3", pins.ETCD),
        (programs.CONTAINERD, "github.com/containerd/containerd/v2", pins.CONTAINERD),
        (programs.COREDNS, "github.com/coredns/coredns", pins.COREDNS),
    ):
        assert f"{module} v{version}" in (source.module / "go.mod").read_text()
        assert f"{module} v{version} h1:" in (source.module / "go.sum").read_text()
    assert f"v{pins.KUBERNETES}" in programs.KUBERNETES.stamps.values()
    assert f"v{pins.CONTAINERD}" in programs.CONTAINERD.stamps.values()


def test_other_sources_have_another_revision() -> None:
    """
    If it fails: raise REVISION, here and in the variables of the roles, and write the new digest.
    """
    assert programs.sources() == pins.SOURCES
    known = [yaml.safe_load(path.read_text()) for path in ROOT.glob("roles/kubernetes_node/vars/*.yml")]
    assert {each["__kubernetes_node_revision"] for each in known} == {pins.REVISION}
    containers = (ROOT / "roles/container_runtime/vars/debian-12.yml").read_text()
    assert f"containerd: {pins.CONTAINERD}-{pins.REVISION}\n" in containers


def test_an_archive_has_the_programs_of_each_image_over_its_layers(tmp_path: Path, program: Path) -> None:
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as file:
        file.add(program, "usr/sbin/nft")
    proxy = Image("registry.k8s.io/kube-proxy:v1.2.3", (program,), layers=(layer,))
    pause = Image("registry.k8s.io/pause:1", (program,), ("/kubelet",), directory=".")

    digests = images.write((proxy, pause), tmp_path / "images.tar")

    with tarfile.open(tmp_path / "images.tar") as archive:
        blobs = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    index = json.loads(blobs["index.json"])
    names = [each["annotations"]["io.containerd.image.name"] for each in index["manifests"]]
    assert names == [proxy.name, pause.name] == list(digests)
    manifest, other = (json.loads(blobs[_blob(each["digest"])]) for each in index["manifests"])
    assert gzip.decompress(blobs[_blob(manifest["layers"][0]["digest"])]) == layer.read_bytes()
    assert _members(blobs[_blob(manifest["layers"][1]["digest"])], tmp_path)["usr/local/bin/kubelet"] == 0o755
    assert list(_members(blobs[_blob(other["layers"][0]["digest"])], tmp_path)) == ["kubelet"]
    config = json.loads(blobs[_blob(other["config"]["digest"])])
    assert config["config"]["Entrypoint"] == ["/kubelet"]
    text = gzip.decompress(blobs[_blob(other["layers"][0]["digest"])])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(text).hexdigest()}"]


def test_equal_programs_make_equal_archives(tmp_path: Path, program: Path) -> None:
    image = Image("registry.k8s.io/pause:1", (program,))
    images.write((image,), tmp_path / "one.tar")
    program.touch()
    images.write((image,), tmp_path / "other.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()


@needs_dpkg
def test_a_package_has_its_files_for_root(tmp_path: Path, program: Path) -> None:
    package = Package(
        "kubelet", "1.2.3-1", "agent of a node", ("mount", "runc"),
        {"usr/bin/kubelet": program}, {"usr/lib/systemd/system/kubelet.service": "[Unit]\n"},
        {"usr/share/images.tar": program},
    )  # fmt: skip

    path = packages.write(package, tmp_path)

    assert path.name == "kubelet_1.2.3-1_amd64.deb"
    lines = _run("dpkg-deb", "--contents", path).splitlines()
    found = {line.split(maxsplit=5)[5]: line.split()[:2] for line in lines}
    assert found["./usr/bin/kubelet"] == ["-rwxr-xr-x", "root/root"]
    assert found["./usr/share/images.tar"] == ["-rw-r--r--", "root/root"]
    fields = _run("dpkg-deb", "--field", path)
    assert "Depends: mount, runc\n" in fields and "Architecture: amd64\n" in fields
    again = packages.write(package, tmp_path / "..").rename(tmp_path / "again.deb")
    assert path.read_bytes() == again.read_bytes()


@needs_dpkg
def test_a_package_is_in_the_pool_under_its_digest(tmp_path: Path, program: Path, monkeypatch) -> None:
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path / "cache"))
    path = packages.write(
        Package("kubelet", "1.2.3-1", "agent of a node", programs={"usr/bin/kubelet": program}), tmp_path
    )

    for _ in range(2):
        store.add([path], "debian-12")

    assert store.package("debian-12", store.sha256(path)).read_bytes() == path.read_bytes()
    assert "Package: kubelet\nVersion: 1.2.3-1\n" in store.index("debian-12")


def test_each_program_and_image_is_in_a_package() -> None:
    made = packages.of_cluster(Path("/bin"), Path("/images.tar"))
    packed = {path.name for each in made for path in each.programs.values()}
    packed |= {path.name for image in images.of_cluster(Path("/bin"), Path("/layer.tar")) for path in image.programs}
    built = {Path(package).name for package in programs.KUBERNETES.packages + programs.CONTAINERD.packages}
    assert built | {"etcd", "etcdctl", "etcdutl", "coredns"} == packed
    assert [each.version for each in made if each.name == "kubelet"] == [f"{pins.KUBERNETES}-{pins.REVISION}"]


def test_the_minor_before_shares_what_is_not_kubernetes() -> None:
    made = packages.of_cluster(Path("/bin"), Path("/images.tar"), pins.PREVIOUS)
    assert {each.name for each in made} == {"kubelet", "kubeadm", "kubectl", "kubernetes-images"}
    assert {each.version for each in made} == {f"{pins.PREVIOUS}-{pins.REVISION}"}
    named = [image.name for image in images.of_cluster(Path("/bin"), Path("/layer.tar"), pins.PREVIOUS)]
    assert f"registry.k8s.io/kube-apiserver:v{pins.PREVIOUS}" in named
    assert f"registry.k8s.io/etcd:{pins.ETCD}-0" in named
    newer, older = (tuple(map(int, version.split("."))) for version in (pins.KUBERNETES, pins.PREVIOUS))
    assert newer[:2] == (older[0], older[1] + 1)
    for role, name in (("kubernetes_node", "versions"), ("kubernetes_control_plane", "sets")):
        known = yaml.safe_load((ROOT / f"roles/{role}/vars/debian-12.yml").read_text())[f"__{role}_{name}"]
        versions = [each["version"] if isinstance(each, dict) else each for each in known]
        assert {pins.KUBERNETES, pins.PREVIOUS} == {*versions}


def test_a_missing_program_is_named_with_its_package(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupError, match="dpkg, mmdebstrap"):
        packages.require()


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _members(layer: bytes, scratch: Path) -> dict[str, int]:
    path = scratch / "read.tar"
    path.write_bytes(layer)
    with tarfile.open(path) as file:
        return {member.name: member.mode for member in file}


def _run(*argv: object) -> str:
    return subprocess.run([*map(str, argv)], capture_output=True, text=True, check=True).stdout
