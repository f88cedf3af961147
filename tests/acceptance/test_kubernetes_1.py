"""Line 1: a cluster of Kubernetes on three containers of the twin, of packages that the toolchain has built."""

import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from rackwright.toolchain import pulumi_kubernetes
from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.kubernetes import (
    ADDRESS,
    HOSTS,
    KUBECTL,
    NODES,
    PLANE,
    cluster,
    kubectl,
    ready_nodes,
    system_pods,
)
from tests.support.lab import Claimed, Lab, format_claims
from tests.support.log import Log

ETCDCTL = (
    f"{KUBECTL} exec --namespace kube-system etcd-{PLANE} -- etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt "
    "--cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key"
)
SETTINGS = "/etc/rackwright/kubernetes"
ASK = """\
import socket, struct
name = b"".join(bytes([len(part)]) + part for part in b"kubernetes.default.svc.cluster.local".split(b"."))
asked = struct.pack(">6H", 1, 256, 1, 0, 0, 0) + name + b"\\0" + struct.pack(">2H", 1, 1)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(5)
    client.sendto(asked, ("10.96.0.10", 53))
    print(socket.inet_ntoa(client.recv(512)[-4:]))
"""
"""Program that asks the DNS of the cluster, at the address of its service, for the address of the API."""
NODE, CONTROL, MEMBER, CLUSTER = (
    f"{NODES[0]}/kubernetes_node",
    f"{PLANE}/kubernetes_control_plane",
    f"{NODES[0]}/node",
    f"{PLANE}/cluster",
)
BROKEN: dict[Claimed, tuple[str, str]] = {
    (NODE, "package:kubectl"): (NODES[0], "apt-mark unhold kubectl"),
    (NODE, "file:/etc/sysctl.d/61-rackwright-kubernetes.conf"): (
        NODES[0],
        "rm /etc/sysctl.d/61-rackwright-kubernetes.conf",
    ),
    (NODE, "file:/etc/modules-load.d/60-rackwright-kubernetes.conf"): (
        NODES[0],
        "echo >> /etc/modules-load.d/60-rackwright-kubernetes.conf",
    ),
    (NODE, "file:/etc/cni/net.d/10-rackwright.conflist"): (
        NODES[0],
        "sed -i s/10.244.2.0/10.9.9.0/ /etc/cni/net.d/*.conflist",
    ),
    (NODE, "file:/etc/default/kubelet"): (NODES[0], "chmod 0600 /etc/default/kubelet"),
    (f"{NODES[0]}/network", "route:10.244.3.0/24"): (NODES[0], "ip route delete 10.244.3.0/24"),
    (MEMBER, "unit:kubelet.service"): (NODES[0], "systemctl stop kubelet.service"),
    (CONTROL, f"file:{SETTINGS}/audit-policy.yaml"): (PLANE, f"sed -i s/Request/None/ {SETTINGS}/audit-policy.yaml"),
    (CONTROL, f"file:{SETTINGS}/authentication.yaml"): (PLANE, f"echo >> {SETTINGS}/authentication.yaml"),
    (CONTROL, f"file:{SETTINGS}/encryption.yaml"): (PLANE, f"chmod 0644 {SETTINGS}/encryption.yaml"),
    (CONTROL, f"file:{SETTINGS}/kubeadm.yaml"): (PLANE, f"echo >> {SETTINGS}/kubeadm.yaml"),
    (CONTROL, "file:/etc/kubernetes/admin.conf"): (PLANE, "chmod 0644 /etc/kubernetes/admin.conf"),
    (CONTROL, "file:/etc/kubernetes/pki/ca.key"): (PLANE, "chmod 0640 /etc/kubernetes/pki/ca.key"),
    (CONTROL, "file:/etc/kubernetes/manifests/kube-scheduler.yaml"): (
        PLANE,
        "rm /etc/kubernetes/manifests/kube-scheduler.yaml",
    ),
    (CLUSTER, "node:node-01"): (PLANE, f"{KUBECTL} label --overwrite node node-01 rack=b9 team=x"),
    (CLUSTER, "node:node-02"): (PLANE, f"{KUBECTL} cordon node-02; {KUBECTL} taint node node-02 own=1:NoSchedule"),
}
"""The host and the script that break each claim."""


EDITS = {
    "object:vision/ResourceQuota/team": "kubectl -n vision patch resourcequota team --type merge "
    """-p '{"spec":{"hard":{"pods":"1000","count/secrets":"5"}}}'""",
    "object:vision/LimitRange/team": "kubectl -n vision patch limitrange team --type json "
    """-p '[{"op":"add","path":"/spec/limits/-","value":{"type":"Pod","max":{"cpu":"64"}}}]'""",
    "object:vision/Role/viewer": "kubectl -n vision patch role viewer --type json "
    """-p '[{"op":"add","path":"/rules/-","value":{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}}]'""",
    "object:vision/RoleBinding/viewer": "kubectl -n vision patch rolebinding viewer --type json -p "
    """'[{"op":"add","path":"/subjects/-","value":"""
    """{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mallory"}}]'""",
    "object:vision/NetworkPolicy/deny": "kubectl -n vision patch networkpolicy deny --type merge "
    """-p '{"spec":{"ingress":[{}]}}'""",
    "object:vision/NetworkPolicy/dns": "kubectl -n vision delete networkpolicy dns",
    "object:Namespace/vision": "kubectl label --overwrite namespace vision "
    "pod-security.kubernetes.io/enforce=privileged",
    "object:PriorityClass/training": "kubectl delete priorityclass training",
    "node:node-01": "kubectl label --overwrite node node-01 rack=z9",
    "node:node-02": "kubectl taint node node-02 own=1:NoSchedule; kubectl cordon node-02",
    "namespace:vision": "kubectl -n vision create rolebinding friend --clusterrole=admin --user=mallory",
}
"""The command that changes each kind of object by hand, by the claim under which it is found."""


@line("kubernetes", 1, part="edits")
def test_edits_by_hand_are_found_under_their_paths_and_corrected(log: Log) -> str:
    """Additions to lists are found too; only an object that nobody declared is left to a person."""
    with cluster(log) as lab:
        lab.up()
        log("eleven edits by hand")
        for command in EDITS.values():
            lab.rackwright("cluster", "exec", "cluster", "--", "sh", "-c", command, status=0)
        found = {claim for name, claim in lab.differing() if name == CLUSTER}
        need(found == EDITS.keys(), f"found {sorted(found)}")
        lab.up(status=1)
        left = lab.audit_differences(status=1)
        need(left == {(CLUSTER, "namespace:vision")}, f"left: {format_claims(left)}")
        lab.rackwright("cluster", "exec", "cluster", "--", "kubectl", "-n", "vision", "delete", "rolebinding/friend")
        need(not lab.audit_differences(status=0), "something differs in the end")
    return f"{len(EDITS)} edits found in preview and audit, {len(EDITS) - 1} corrected, 1 left to a person"


@line("kubernetes", 1, part="program")
def test_a_program_with_pulumi_kubernetes_goes_up_through_cluster_exec(log: Log) -> str:
    """A program of an operator makes an object, finds it changed by hand, and has a state without a key of the API."""
    with cluster(log) as lab:
        lab.up()
        lab.rackwright("toolchain", "pulumi-kubernetes", status=0)
        front = lab.directory.parent / "front"
        _write_program(front, log)
        _front(lab, front, "pulumi stack init front && pulumi up --yes --skip-preview")
        log("the object that somebody changed")
        lab.ssh(PLANE, f"{KUBECTL} patch configmap front --type merge --patch '{CHANGED}'")
        _front(lab, front, "pulumi up --yes --refresh")
        word = kubectl(lab, "get configmap front")["data"]["word"]
        need(word == "declared", f"the object says {word!r}")
        state = _front(lab, front, "pulumi stack export")
        need("PRIVATE KEY" not in state and "client-key-data" not in state, "the state has a key of the API")
        _front(lab, front, "pulumi destroy --yes")
        need(not lab.audit_differences(status=0), "something of the cluster differs")
    return "an object made, corrected and removed by a program, without a key in its state"


CHANGED = '{"data": {"word": "changed"}}'
PROGRAM = """\
import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

ConfigMap("front", metadata={"name": "front"}, data={"word": "declared"})
"""


def _write_program(front: Path, log: Log) -> None:
    """Write a program of pulumi with an environment of its own."""
    front.mkdir()
    (front / "Pulumi.yaml").write_text("name: front\nruntime: {name: python, options: {virtualenv: .venv}}\n")
    (front / "__main__.py").write_text(PROGRAM)
    log.run([sys.executable, "-m", "venv", str(front / ".venv")])
    pinned = f"pulumi-kubernetes=={pulumi_kubernetes.VERSION}"
    done = log.run([str(front / ".venv/bin/pip"), "install", "--quiet", pinned, "setuptools"])
    need(done.returncode == 0, f"pip does not install {pinned}: {done.stderr}")


def _front(lab: Lab, front: Path, command: str) -> str:
    """Run *command* of pulumi in the directory of the program, with access to the API, and return its output."""
    variables = f'eval "$({lab.programs}/rackwright env)" && cd {front} && export PULUMI_BACKEND_URL=file://{front}'
    forced = "export PULUMI_CONFIG_PASSPHRASE=front PULUMI_K8S_ENABLE_PATCH_FORCE=true"
    script = f"{variables} && {forced} && {command}"
    return lab.rackwright("cluster", "exec", "cluster", "--", "bash", "-c", script, status=0).stdout


@line("kubernetes", 1, part="cluster")
def test_a_cluster_is_made_and_kept(log: Log) -> str:
    """Nodes join and are Ready without a token in the state, secrets are encrypted, and broken claims are corrected."""
    with cluster(log) as lab:
        began = lab.log.seconds
        lab.up()
        made = lab.log.seconds - began
        eventually(lambda: set(system_pods(lab).values()) == {"Running"}, "all pods of the system run", 300)
        pods = system_pods(lab)
        need(len(pods) == 9, f"pods of the system: {sorted(pods)}")
        memory = {host: _memory_mib(lab, host) for host in HOSTS}
        need(not lab.differing(), "something differs after `up`")
        _need_no_token(lab)
        _need_encrypted(lab)
        _need_nobody_anonymous(lab)
        for host in HOSTS:
            eventually(lambda host=host: _name_is_found(lab, host), f"{host} reaches the DNS of the cluster", 60)
        log("commands of this computer reach the API")
        asked = lab.rackwright("cluster", "exec", "cluster", "--", "kubectl", "get", "nodes", "--output=name", status=0)
        need(asked.stdout.split() == [f"node/{host}" for host in HOSTS], f"kubectl printed {asked.stdout!r}")
        log("breaking each claim")
        for host, script in BROKEN.values():
            lab.ssh(host, script)
        found = lab.differing()
        need(found >= set(BROKEN), f"not found: {format_claims(set(BROKEN) - found)}")
        lab.up()
        eventually(lambda: set(system_pods(lab).values()) == {"Running"}, "the pods run again", 300)
        eventually(lambda: not lab.audit_differences(), "nothing differs after the correction", 120)
        log("a node that nobody declared any more leaves")
        lab.edit(lambda fleet: fleet["clusters"]["main"]["nodes"].pop("node-02"))
        lab.up()
        need(ready_nodes(lab).keys() == {PLANE, NODES[0]}, f"the cluster still has {sorted(ready_nodes(lab))}")
        need(lab.ssh(NODES[1], "ls /etc/kubernetes/kubelet.conf", status=None) == "", "its kubelet has still access")
        need(not (left := lab.audit_differences(status=0)), f"left: {format_claims(left)}")
    used = ", ".join(f"{host} {mib}" for host, mib in memory.items())
    return f"made in {made:.0f} s, {len(pods)} pods, MiB of memory: {used}; {len(BROKEN)} broken claims corrected"


ENDPOINT = "10.41.0.10"
"""Address that one of the control planes has at a time."""


def _three_planes(fleet: Any) -> None:
    """Make all hosts of the example control planes behind one address; no host runs pods."""
    addresses = [f"10.41.0.1{number}" for number in (1, 2, 3)]
    own = fleet["hosts"][PLANE]["roles"]["kubernetes_control_plane"]
    shared = {"address": ENDPOINT, "interface": "fabric0", "members": addresses}
    for host, address in zip(HOSTS, addresses, strict=True):
        roles = fleet["hosts"][host]["roles"]
        roles["kubernetes_control_plane"] = {**deepcopy(own), "address": address, "endpoint": f"{ENDPOINT}:6443"}
        roles["virtual_address"] = {
            **deepcopy(shared), "own": address, "check_url": "https://127.0.0.1:6443/livez"
        }  # fmt: skip
    fleet["clusters"]["main"] = {"control_plane": PLANE, "further_control_planes": [*NODES]}


@line("kubernetes", 1, part="three-planes")
def test_three_control_planes_outlive_the_loss_of_one(log: Log) -> str:
    """Two hosts join the first with members of etcd. The first loses its power, and the API answers at its address."""
    with cluster(log, _three_planes) as lab:
        began = lab.log.seconds
        lab.up()
        made = lab.log.seconds - began
        need(not (left := lab.audit_differences(status=0)), f"left: {format_claims(left)}")
        need(set(ready_nodes(lab).values()) == {True}, f"nodes: {ready_nodes(lab)}")
        kept = kubectl(lab, "get secrets --namespace kube-system")["items"]
        need(all(each["metadata"]["name"] != "kubeadm-certs" for each in kept), "the uploaded keys are still there")
        log(f"{PLANE} loses its power")
        faults.power_off(lab.twin, PLANE)
        began = lab.log.seconds
        ask = f"kubectl --kubeconfig /etc/kubernetes/admin.conf --server https://{ENDPOINT}:6443 get --raw /readyz"
        eventually(lambda: lab.ssh(NODES[0], ask, status=None) == "ok", "the API answers at the address", 120)
        moved = lab.log.seconds - began
        lab.ssh(NODES[0], f"{KUBECTL} create configmap written --from-literal=word=after")
        log("cluster exec reaches another control plane")
        word = lab.rackwright(
            "cluster", "exec", "cluster", "--", "kubectl", "get", "configmap", "written", "--output=name"
        )
        need(word.stdout.strip() == "configmap/written", f"kubectl printed {word.stdout!r}")
        log(f"{PLANE} is back")
        lab.start()
        eventually(lambda: not lab.audit_differences(), "nothing differs once it is back", 600)
    return f"made in {made:.0f} s; after the loss of {PLANE} the API answered at its address after {moved:.0f} s"


@line("kubernetes", 1, part="faults")
def test_faults_of_a_control_plane_are_found_and_end(log: Log) -> str:
    """The API server, etcd and the certificates are lost in turns; pods run on, and each loss is found and ends."""
    with cluster(log) as lab:
        lab.up()
        pods = {host: lab.ssh(host, "pgrep --exact coredns", status=None) for host in HOSTS}
        need(any(pods.values()), "no host runs a pod")
        found = {}
        for component in ("kube-apiserver", "etcd"):
            log(f"without {component}")
            lab.rackwright("twin", "fault", "cluster", "component-lost", PLANE, component, status=0)
            report = lab.audit(status=1)
            claims = [(each["name"], of) for each in report["resources"] for of in each["differences"]]
            manifest = f"file:/etc/kubernetes/manifests/{component}.yaml"
            differing = {(name, of["claim"]) for name, of in claims if not of["unknown"]}
            need((CONTROL, manifest) in differing, f"found: {format_claims(differing)}")
            unknown = {name for name, of in claims if of["unknown"]}
            need(CLUSTER in unknown, f"what the API would say is not unknown: {sorted(unknown)}")
            found[component] = len(claims)
            now = {host: lab.ssh(host, "pgrep --exact coredns", status=None) for host in HOSTS}
            need(now == pods, f"pods were {pods}, and are {now}")
            if component == "kube-apiserver":
                lab.rackwright("twin", "fault", "cluster", "component-back", PLANE, component, status=0)
            else:
                lab.up(status=3)  # its preview could not ask the API about the cluster itself
                lab.ssh(PLANE, f"rm /etc/kubernetes/{component}.lost.yaml")
            eventually(lambda: not lab.audit_differences(), f"nothing differs with {component} again", 180)
        log("expired certificates")
        lab.rackwright("twin", "fault", "cluster", "certificates", PLANE, "45", status=0)
        expired = lab.audit_differences(status=1)
        need((CONTROL, "certificates:kubernetes") in expired, f"found: {format_claims(expired)}")
        lab.up(status=3)  # as without etcd
        eventually(lambda: not lab.audit_differences(), "nothing differs with new certificates", 180)
        need(all(ready_nodes(lab).values()), f"nodes: {ready_nodes(lab)}")
    return f"found without a component, with what is unknown: {found}; expired certificates were renewed by `up`"


def _memory_mib(lab: Lab, host: str) -> int:
    """Return the proportional set size of all processes of *host*, in MiB."""
    script = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ {sum += $2} END {print int(sum / 1024)}'"
    return int(lab.ssh(host, script))


def _name_is_found(lab: Lab, host: str) -> bool:
    return lab.ssh(host, f"python3 - <<'END'\n{ASK}END", status=None) == "10.96.0.1"


def _need_no_token(lab: Lab) -> None:
    """Require that tokens live for minutes, and that the state has none of them."""
    secrets = kubectl(lab, "get secrets --namespace kube-system")["items"]
    tokens = [secret for secret in secrets if secret["metadata"]["name"].startswith("bootstrap-token-")]
    state = lab.pulumi("stack", "export", "--show-secrets", status=0).stdout
    for token in tokens:
        words = lab.ssh(PLANE, f"echo {token['data']['token-secret']} | base64 -d")
        need(words not in state, "the state has a token")
    need(len(tokens) <= 4, f"there are {len(tokens)} tokens")


def _need_encrypted(lab: Lab) -> None:
    lab.ssh(PLANE, f"{KUBECTL} create secret generic shown --from-literal=word=telltale")
    read = f"{ETCDCTL} get /registry/secrets/default/shown | grep --text --only-matching 'k8s:enc:secretbox\\|telltale'"
    need(lab.ssh(PLANE, read) == "k8s:enc:secretbox", "etcd has the secret in plain text")
    need("audit.k8s.io" in lab.ssh(PLANE, "tail -n 1 /var/log/kubernetes/audit.log"), "no audit log")


def _need_nobody_anonymous(lab: Lab) -> None:
    asked = "curl --silent --output /dev/null --write-out '%{http_code}' --cacert /etc/kubernetes/pki/ca.crt"
    for path, wanted in {"/livez": "200", "/api/v1/namespaces": "401", "/version": "401"}.items():
        status = lab.ssh(PLANE, f"{asked} https://{ADDRESS}:6443{path}", status=None)
        need(status == wanted, f"without a certificate {path} is answered with {status}")
