"""Line 1, the control plane: kubeadm makes it on a virtual machine, from packages that the toolchain has built."""

import json
from typing import Any

from rackwright.toolchain.kubernetes import pins
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Claimed, Lab, format_claims
from tests.support.log import Log

HOST, ADDRESS = "cp-01", "10.145.0.11"
FLEET = f"""\
fleet: cluster
mirror: {{}}
hosts:
  {HOST}:
    address: 192.0.2.1
    identity: {{serial: RW-K8S-01}}
    os: debian-12
    drives:
      - {{serial: RW-K8S-BOOT, boot: true}}
    nics: [{{name: fabric0, mac: "52:54:00:45:00:01", addresses: [{ADDRESS}/24]}}]
    network: {{}}
    roles:
      base: {{security_updates: false, packages: [curl]}}
      container_runtime:
        engine: containerd
        version: {pins.CONTAINERD}
        pause_image: registry.k8s.io/pause:{pins.PAUSE}
      kubernetes_node:
        version: {pins.KUBERNETES}
        address: {ADDRESS}
        pod_network: 10.244.1.0/24
      kubernetes_control_plane:
        version: {pins.KUBERNETES}
        address: {ADDRESS}
        pod_network: 10.244.0.0/16
        encryption_key: {{secret: cluster_encryption}}
"""
NODE, PLANE = f"{HOST}/kubernetes_node", f"{HOST}/kubernetes_control_plane"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
ETCDCTL = (
    "etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt "
    "--key /etc/kubernetes/pki/etcd/server.key"
)
SETTINGS = "/etc/rackwright/kubernetes"
BROKEN: dict[Claimed, str] = {
    (NODE, "package:kubectl"): "apt-mark unhold kubectl",
    (NODE, "sysctl:kernel.panic"): "sysctl -w kernel.panic=0",
    (NODE, "file:/etc/sysctl.d/61-rackwright-kubernetes.conf"): "rm /etc/sysctl.d/61-rackwright-kubernetes.conf",
    (NODE, "file:/etc/modules-load.d/60-rackwright-kubernetes.conf"): (
        "echo >> /etc/modules-load.d/60-rackwright-kubernetes.conf"
    ),
    (NODE, "file:/etc/cni/net.d/10-rackwright.conflist"): "sed -i s/10.244.1.0/10.9.9.0/ /etc/cni/net.d/*.conflist",
    (NODE, "file:/etc/default/kubelet"): "chmod 0600 /etc/default/kubelet",
    (PLANE, f"file:{SETTINGS}/audit-policy.yaml"): f"sed -i s/Request/None/ {SETTINGS}/audit-policy.yaml",
    (PLANE, f"file:{SETTINGS}/authentication.yaml"): f"echo >> {SETTINGS}/authentication.yaml",
    (PLANE, f"file:{SETTINGS}/encryption.yaml"): f"chmod 0644 {SETTINGS}/encryption.yaml",
    (PLANE, f"file:{SETTINGS}/kubeadm.yaml"): f"echo >> {SETTINGS}/kubeadm.yaml",
    (PLANE, "file:/etc/kubernetes/admin.conf"): "chmod 0644 /etc/kubernetes/admin.conf",
    (PLANE, "file:/etc/kubernetes/pki/ca.key"): "chmod 0640 /etc/kubernetes/pki/ca.key",
    (PLANE, "file:/etc/kubernetes/manifests/kube-scheduler.yaml"): "rm /etc/kubernetes/manifests/kube-scheduler.yaml",
}
"""The script that breaks each claim."""


@line("kubernetes", 1, part="plane")
def test_a_control_plane_is_made_and_kept(log: Log) -> str:
    """The node is Ready, secrets are encrypted, anonymous requests are refused, and broken claims are corrected."""
    with Lab(log.empty_directory() / "project", FLEET, log, "cluster") as lab:
        log("building Kubernetes, or finding it built")
        lab.rackwright("toolchain", "kubernetes", status=0)
        lab.rackwright("lock", "--fetch", "cluster", status=0)
        lab.start()
        began = lab.log.seconds
        lab.up()
        made = lab.log.seconds - began
        eventually(lambda: _node(lab) == "True", "the node is Ready", 300)
        eventually(lambda: set(_pods(lab).values()) == {"Running"}, "all pods of the system run", 300)
        pods = _pods(lab)
        need(len(pods) == 7, f"pods of the system: {sorted(pods)}")
        need(not lab.audit_differences(status=0), "something differs after `up`")
        _need_encrypted(lab)
        _need_nobody_anonymous(lab)
        need("audit.k8s.io" in lab.ssh(HOST, "tail -n 1 /var/log/kubernetes/audit.log"), "no audit log")
        memory = int(lab.ssh(HOST, "awk '/MemTotal/ {t=$2} /MemAvailable/ {print int((t-$2)/1024)}' /proc/meminfo"))
        log("breaking each claim")
        for script in BROKEN.values():
            lab.ssh(HOST, script)
        found = lab.differing()
        need(found >= set(BROKEN), f"not found: {format_claims(set(BROKEN) - found)}")
        lab.up()
        eventually(lambda: set(_pods(lab).values()) == {"Running"}, "the pods run again", 300)
        need(not (left := lab.audit_differences(status=0)), f"left: {format_claims(left)}")
        log("and after a restart of the host")
        lab.reboot(HOST)
        eventually(lambda: _node(lab) == "True", "the node is Ready after its restart", 300)
        need(not (left := lab.audit_differences(status=0)), f"left: {format_claims(left)}")
    return f"made in {made:.0f} s, {len(pods)} pods, {memory} MiB in use; {len(BROKEN)} broken claims found and mended"


def _kubectl(lab: Lab, arguments: str) -> Any:
    output = lab.ssh(HOST, f"{KUBECTL} {arguments} --output json", status=None)
    return json.loads(output) if output.startswith("{") else {"items": []}


def _node(lab: Lab) -> str:
    """Return the status of the node's condition Ready."""
    nodes = _kubectl(lab, "get nodes")["items"]
    found = [each["status"] for node in nodes for each in node["status"]["conditions"] if each["type"] == "Ready"]
    return found[0] if found else "none"


def _pods(lab: Lab) -> dict[str, str]:
    pods = _kubectl(lab, "get pods --namespace kube-system")["items"]
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods}


def _need_encrypted(lab: Lab) -> None:
    lab.ssh(HOST, f"{KUBECTL} create secret generic shown --from-literal=word=telltale")
    read = f"{ETCDCTL} get /registry/secrets/default/shown | grep --text --only-matching 'k8s:enc:secretbox\\|telltale'"
    need(lab.ssh(HOST, read) == "k8s:enc:secretbox", "etcd has the secret in plain text")


def _need_nobody_anonymous(lab: Lab) -> None:
    asked = "curl --silent --output /dev/null --write-out '%{http_code}' --cacert /etc/kubernetes/pki/ca.crt"
    for path, wanted in {"/livez": "200", "/api/v1/namespaces": "401", "/version": "401"}.items():
        status = lab.ssh(HOST, f"{asked} https://{ADDRESS}:6443{path}", status=None)
        need(status == wanted, f"without a certificate {path} is answered with {status}")
