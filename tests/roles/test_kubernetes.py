"""The roles kubernetes_node and kubernetes_control_plane: what they refuse, and the files that they write."""

import base64
import json
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.toolchain.kubernetes import pins, programs
from tests.support.our_roles import REPOSITORY, ROLES

NODE = {"version": pins.KUBERNETES, "address": "10.0.0.11", "pod_network": "10.244.1.0/24"}
KEY = "a" * 32
PLANE = {"version": pins.KUBERNETES, "address": "10.0.0.11", "pod_network": "10.244.0.0/16", "encryption_key": KEY}
OTHER = {"address": "10.0.0.12", "pod_network": "10.244.2.0/24"}
SETTINGS = "/etc/rackwright/kubernetes"


def spec(role: str, variables: dict[str, Any]) -> RoleSpec:
    about = AboutHost(name="alpha", os="debian-12", profile="virtual")
    identity = {"serial": "S1"}
    return RoleSpec(
        host="alpha", role=role, identity=identity, about=about, fleet=AboutFleet(name="lab"), variables=variables
    )


def written(role: str, **variables: Any) -> dict[str, str]:
    """Return the files that the role writes, by their path."""
    return {file.file: str(file.content) for file in promises(spec(role, variables), REPOSITORY).files}


def claims(role: str, **variables: Any) -> list[str]:
    """Return the things that the role claims."""
    return [entry.thing for entry in promises(spec(role, variables), REPOSITORY).entries]


def test_a_node_has_a_network_for_its_pods_and_routes_to_those_of_others() -> None:
    files = written("kubernetes_node", **NODE, nodes=[OTHER], service_network="10.96.0.0/12")

    network = json.loads(files["/etc/cni/net.d/10-rackwright.conflist"])
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    routes = files["/etc/systemd/system/rackwright-kubernetes-routes.service"]
    for network in ("10.244.2.0/24", "10.96.0.0/12"):
        assert f"ExecStart=/usr/sbin/ip route replace {network} via 10.0.0.12\n" in routes
    arguments = files["/etc/default/kubelet"].splitlines()[1]
    assert arguments == 'KUBELET_EXTRA_ARGS="--node-ip=10.0.0.11 --hostname-override=alpha"'
    assert "net.ipv4.ip_forward = 1\n" in files["/etc/sysctl.d/61-rackwright-kubernetes.conf"]


def test_a_node_alone_has_no_routes() -> None:
    claimed = claims("kubernetes_node", **NODE)
    assert "unit:rackwright-kubernetes-routes.service" not in claimed
    assert "file:/etc/systemd/system/rackwright-kubernetes-routes.service" in claimed, "it is removed"
    assert written("kubernetes_node", **NODE)["/etc/default/kubelet"].splitlines()[1].endswith('=alpha"')


def test_images_come_from_the_package_or_from_the_vendor() -> None:
    vendor = {"repository": "https://mirror.example/kubernetes/v1.37/", "repository_key": "KEY"}
    built = f"Pin: version {pins.KUBERNETES}-{pins.REVISION}"
    preferences = "/etc/apt/preferences.d/60-rackwright-kubernetes"
    assert "package:kubernetes-images" in claims("kubernetes_node", **NODE)
    assert "package:kubernetes-images" not in claims("kubernetes_node", **NODE, **vendor)
    assert built in written("kubernetes_node", **NODE)[preferences]
    assert f"Pin: version {pins.KUBERNETES}-1.1" in written("kubernetes_node", **NODE, **vendor)[preferences]


@pytest.mark.parametrize(
    ("role", "variables", "wanted"),
    [
        ("kubernetes_node", {**NODE, "version": "1.28.0"}, "version: got 1.28.0; known versions: 1.37.2"),
        ("kubernetes_node", {**NODE, "nodes": [{**OTHER, "address": "10.0.0.11"}]},
         "nodes: got 10.0.0.11 with the pods 10.244.2.0/24; another node has another address"),
        ("kubernetes_control_plane", {**PLANE, "version": "1.36.0"}, "version: got 1.36.0; known versions: 1.37.2"),
        ("kubernetes_control_plane", {**PLANE, "service_network": "10.244.0.0/16"},
         "service_network: got 10.244.0.0/16, as for pods; pods and services have different addresses"),
        ("kubernetes_control_plane", {**PLANE, "audit_days": 0}, "audit_days: got 0; the audit log is kept"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(role: str, variables: dict[str, Any], wanted: str) -> None:
    assert list(ROLES[role].problems("debian-12", variables)) == [], "each is of its type"
    [problem] = refusals(ROLES[role], "debian-12", variables)

    assert f"{'.'.join(map(str, problem.path))}: {problem}".startswith(wanted)


def test_the_control_plane_keeps_secrets_encrypted_and_writes_an_audit_log() -> None:
    files = written("kubernetes_control_plane", **PLANE)
    documents = [*yaml.safe_load_all(files[f"{SETTINGS}/kubeadm.yaml"])]
    cluster = next(each for each in documents if each["kind"] == "ClusterConfiguration")
    options = {each["name"]: each["value"] for each in cluster["apiServer"]["extraArgs"]}
    for option in ("audit-policy-file", "authentication-config", "encryption-provider-config"):
        assert options[option] in files
    [resource] = yaml.safe_load(files[f"{SETTINGS}/encryption.yaml"])["resources"]
    assert (
        resource["providers"][0]["secretbox"]["keys"][0]["secret"]
        == base64.b64encode(sha256(KEY.encode()).digest()).decode()
    )
    assert list(resource["providers"][1]) == ["identity"], "secrets from before are read"
    assert cluster["controlPlaneEndpoint"] == "10.0.0.11:6443"
    assert cluster["apiServer"]["certSANs"] == ["alpha", "10.0.0.11", "127.0.0.1"]


def test_no_content_of_a_secret_is_in_the_audit_log() -> None:
    rules = yaml.safe_load(written("kubernetes_control_plane", **PLANE)[f"{SETTINGS}/audit-policy.yaml"])["rules"]
    levels = [rule["level"] for rule in rules if "secrets" in str(rule) or "resources" not in rule]
    assert levels[-1] == "Request" and "Metadata" in levels[:-1]
    assert [rule["level"] for rule in rules if "secrets" in str(rule)] == ["Metadata"]


def test_kubeadm_accepts_the_configuration(tmp_path: Path) -> None:
    if (built := programs.found_programs()) is None:
        pytest.skip("`rackwright toolchain kubernetes` has not built kubeadm here")
    path = tmp_path / "kubeadm.yaml"
    path.write_text(written("kubernetes_control_plane", **PLANE)[f"{SETTINGS}/kubeadm.yaml"])

    done = subprocess.run([built / "kubeadm", "config", "validate", "--config", path], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
