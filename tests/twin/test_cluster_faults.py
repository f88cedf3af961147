"""Faults of a control plane, by their scripts on a directory of manifests."""

import os
import subprocess
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError, StepFailed
from rackwright.twin import cluster_faults
from rackwright.twin.twin import Twin
from tests.twin.conftest import machine

PROGRAMS = {
    "pgrep": '[ -e "$RUNNING/$2" ]',  # pgrep --exact NAME
    "kubeadm": 'cp "$5" "$RUNNING/$3.config"',  # kubeadm certs renew NAME --config FILE
    "sleep": 'echo "$1" > "$RUNNING/slept"; for each in "$RUNNING"/*.then; do [ -e "$each" ] && sh "$each"; done; true',
}


@pytest.fixture
def plane(tmp_path: Path) -> Path:
    """Return the directory of a control plane with etcd and an API server, and programs that stand for processes."""
    for name in ("bin", "running", "kubernetes/manifests"):
        (tmp_path / name).mkdir(parents=True)
    for name, text in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / "kubernetes/manifests" / f"{name}.yaml").write_text(name)
        (tmp_path / "running" / name).touch()
    return tmp_path


def play(script: str, plane: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{plane / 'bin'}:{os.environ['PATH']}", "RUNNING": str(plane / "running")}
    text = script.replace("/etc/kubernetes", str(plane / "kubernetes"))
    text = text.replace("/etc/rackwright/kubernetes", str(plane)).replace("/root", str(plane))
    argv = ["sh", "-s", "--", *arguments]
    return subprocess.run(argv, input=text, env=environment, capture_output=True, text=True, check=False)


def test_a_component_is_lost_and_returns(plane: Path) -> None:
    manifest, running = plane / "kubernetes/manifests/kube-apiserver.yaml", plane / "running/kube-apiserver"
    (plane / "running/kubelet.then").write_text(f"rm -f {running}")  # kubelet ends the process a moment later

    lost = play(cluster_faults._LOSE, plane, "kube-apiserver")

    assert (lost.returncode, lost.stderr, manifest.exists(), running.exists()) == (0, "", False, False)
    assert play(cluster_faults._LOSE, plane, "kube-apiserver").returncode == 0  # a second time changes nothing

    (plane / "running/kubelet.then").write_text(f"touch {running}")
    back = play(cluster_faults._RETURN, plane, "kube-apiserver")

    assert (back.returncode, back.stderr, manifest.read_text(), running.exists()) == (0, "", "kube-apiserver", True)
    assert (plane / "kubernetes/manifests/etcd.yaml").exists()


def test_a_component_that_does_not_end_is_an_error(plane: Path) -> None:
    assert play(cluster_faults._LOSE, plane, "etcd").returncode == 1


def test_a_host_without_the_component_is_an_error(plane: Path) -> None:
    for script in (cluster_faults._LOSE, cluster_faults._RETURN):
        done = play(script, plane, "kube-scheduler")
        assert (done.returncode, done.stderr) == (1, "the host has no kube-scheduler\n")


def test_names_of_processes_are_at_most_15_characters(plane: Path) -> None:
    (plane / "kubernetes/manifests/kube-controller-manager.yaml").touch()
    (plane / "running/kube-controller").touch()  # as the kernel cuts it
    (plane / "running/kubelet.then").write_text(f"rm -f {plane / 'running/kube-controller'}")

    assert play(cluster_faults._LOSE, plane, "kube-controller-manager").returncode == 0


def test_certificates_end_after_seconds_that_only_their_renewal_knows(plane: Path) -> None:
    config = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n---\nkind: InitConfiguration\n"
    (plane / "kubeadm.yaml").write_text(config)

    done = play(cluster_faults._SHORTEN, plane, "45", "120")

    assert (done.returncode, done.stderr) == (0, "")
    short = config.replace("Configuration\n---", "Configuration\ncertificateValidityPeriod: 45s\n---")
    made = {file.name: file.read_text() for file in (plane / "running").glob("*.config")}
    names = ("apiserver", "admin.conf", "controller-manager.conf", "scheduler.conf")
    assert made == {f"{name}.config": short for name in names}
    assert (plane / "running/slept").read_text() == "46\n", "the certificates are still valid"
    assert ((plane / "kubeadm.yaml").read_text(), (plane / "short.yaml").exists()) == (config, False)


def test_only_components_of_a_control_plane_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = Twin(tmp_path, [machine(1)])
    with pytest.raises(StepFailed, match="the machine is off"):
        cluster_faults.lose_component(twin, "test-01", "etcd")

    monkeypatch.setattr(cluster_faults, "require_power", lambda twin, host: None)
    for change in (cluster_faults.lose_component, cluster_faults.return_component):
        with pytest.raises(DeclarationError, match="is no component"):
            change(twin, "test-01", "../kubelet")
