"""Line 5: what a cluster survives: a lost control plane, a year of certificates, and the next minor version."""

import json
import shlex
import subprocess
from collections import Counter
from typing import Any

from rackwright.toolchain.kubernetes import pins
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.kubernetes import KUBECTL, NODES, PLANE, cluster, kubectl, ready_nodes
from tests.support.lab import Lab, format_claims
from tests.support.log import Log

CONTROL = f"{PLANE}/kubernetes_control_plane"
DIRECTORY = "/srv/snapshots"
SNAPSHOT, CERTIFICATES = (f"rackwright-kubernetes-{name}" for name in ("snapshot", "certificates"))
COMMAND = f"/usr/local/sbin/{SNAPSHOT}"
CERTIFICATE = "/etc/kubernetes/pki/apiserver.crt"
SERVED = "python3 -c \"import ssl; print(ssl.get_server_certificate(('127.0.0.1', 6443)))\""
"""Command that prints the certificate with which the API server answers."""
SHORT = """\
sed 's/^kind: ClusterConfiguration$/&\\ncertificateValidityPeriod: 240h/' \
  /etc/rackwright/kubernetes/kubeadm.yaml > /root/short.yaml
kubeadm certs renew {} --config /root/short.yaml
rm /root/short.yaml
"""
"""Script that gives a certificate ten days, as if the year were over."""
ASK = "curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' http://10.96.0.80:8080/health"
WATCH = f"while [ ! -e /run/upgraded ]; do {ASK}; echo; sleep 0.5; done"
"""Script that asks the workload twice a second, and prints the status of each answer."""
INSTALLED = "sed -i '/^Package: kubelet$/,/^$/s/^Version: .*/Version: {}-0rackwright1/' /var/lib/dpkg/status"
"""Script by which a host seems to have another kubelet."""
WORKLOAD = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: answering}
data:
  Corefile: |
    .:1053 {
      health :8080 {
        lameduck 10s
      }
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: answering}
spec:
  replicas: 2
  selector: {matchLabels: {app: answering}}
  template:
    metadata: {labels: {app: answering}}
    spec:
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {matchLabels: {app: answering}}
      containers:
        - name: coredns
          image: registry.k8s.io/coredns/coredns:v1.14.6
          imagePullPolicy: Never
          args: [-conf, /settings/Corefile]
          readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 2}
          volumeMounts: [{name: settings, mountPath: /settings}]
      volumes: [{name: settings, configMap: {name: answering}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: answering}
spec: {minAvailable: 1, selector: {matchLabels: {app: answering}}}
---
apiVersion: v1
kind: Service
metadata: {name: answering}
spec: {clusterIP: 10.96.0.80, selector: {app: answering}, ports: [{port: 8080}]}
"""
"""Two pods of which one has to be ready at any time. CoreDNS, whose image each node has, answers for its health."""


@line("kubernetes", 5, part="snapshot")
def test_a_snapshot_is_restored_onto_a_new_control_plane(log: Log) -> str:
    """An empty host becomes the lost control plane: with its objects, secrets and nodes, whose pods kept running."""
    with cluster(log, _with_snapshots) as lab:
        lab.up()
        need(not lab.differing(), "something differs after `up`")
        log("an object and a secret before the snapshots, and an object after them")
        lab.ssh(PLANE, f"{KUBECTL} create configmap before --from-literal=word=kept")
        lab.ssh(PLANE, f"{KUBECTL} create secret generic sealed --from-literal=word=telltale")
        for _ in range(2):  # with that of `up` one more than is kept
            lab.ssh(PLANE, f"systemctl start {SNAPSHOT}.service")
        lab.ssh(PLANE, f"{KUBECTL} create configmap after --from-literal=word=lost")
        count = int(lab.ssh(PLANE, f"{COMMAND} list | grep -c kubernetes"))
        need(count == 2, f"{count} snapshots are kept, and 2 are declared")
        _need_encrypted(lab)
        uid = _uid(lab, "namespace vision")
        saved = lab.ssh(PLANE, f"tar -cf - -C / {DIRECTORY.lstrip('/')} | base64 --wrap=0")
        log("the control plane is lost, and an empty host takes its place")
        lab.twin.reset(log.write, [PLANE])
        lab.start()
        lab.ssh(PLANE, f"base64 --decode << 'END' | tar -xf - -C /\n{saved}\nEND")
        refused = lab.up(status=4)
        need("snapshots of an earlier cluster" in refused.stdout + refused.stderr, "an empty cluster would be made")
        lab.edit(_restoring)
        lab.up()
        log("what was there before the snapshot is there")
        need(_word(lab, "configmap before") == "kept", "the object before the snapshot is lost")
        need(_word(lab, "secret sealed") == "dGVsbHRhbGU=", "the secret cannot be read")
        need(_word(lab, "configmap after") == "", "an object from after the snapshot is there")
        need(_uid(lab, "namespace vision") == uid, "the namespace is another one")
        eventually(lambda: ready_nodes(lab) == dict.fromkeys((PLANE, *NODES), True), "all nodes are ready", 300)
        eventually(lambda: not lab.audit_differences(), "nothing differs after the restore", 120)
    return f"{count} snapshots, restored onto an empty host: objects, a secret and {len(NODES)} nodes are back"


@line("kubernetes", 5, part="certificates")
def test_certificates_are_renewed_before_they_expire(log: Log) -> str:
    """The claim finds certificates with ten days left; `up` renews them, and so does the timer's service."""
    with cluster(log) as lab:
        lab.up()
        log("certificates with ten days left")
        lab.ssh(PLANE, SHORT.format("apiserver") + SHORT.format("controller-manager.conf"))
        found = lab.differing()
        need(found == {(CONTROL, "certificates:kubernetes")}, f"found: {format_claims(found)}")
        lab.up()
        need(not lab.audit_differences(status=0), "something differs after the renewal")
        days = [_days_left(lab)]
        need(lab.ssh(PLANE, SERVED) == lab.ssh(PLANE, f"cat {CERTIFICATE}"), "the API server has its old certificate")
        log("the service of the timer")
        lab.ssh(PLANE, SHORT.format("apiserver"))
        lab.ssh(PLANE, f"systemctl start {CERTIFICATES}.service")
        days.append(_days_left(lab))
        need(all(each > 300 for each in days), f"days left: {days}")
        again = lab.ssh(PLANE, f"/usr/local/sbin/{CERTIFICATES}")
        need(again == "", f"it renewed again: {again}")
        eventually(lambda: all(ready_nodes(lab).values()), "all nodes are ready", 120)
        need(not lab.audit_differences(status=0), "something differs in the end")
    return f"two renewals of certificates with 10 days left: {days} days afterwards"


@line("kubernetes", 5, part="upgrade")
def test_a_cluster_is_upgraded_by_one_minor_version_under_load(log: Log) -> str:
    """The control plane comes first, then node after node, drained: a workload of two pods answers all the time."""
    with cluster(log, _older, ("kubernetes", "kubernetes-previous")) as lab:
        lab.up()
        log("a workload of two pods, which answer requests")
        lab.ssh(PLANE, f"{KUBECTL} apply --filename - << 'END'\n{WORKLOAD}\nEND")
        eventually(lambda: lab.ssh(PLANE, ASK, status=None) == "200", "the workload answers", 300)
        lab.ssh(PLANE, f"{KUBECTL} rollout status deployment/answering --timeout=300s")
        log("an upgrade by two minor versions")
        lab.edit(_newer)
        lab.rackwright("lock", "--fetch", "cluster", status=0)
        lab.ssh(NODES[0], INSTALLED.format("1.35.9"))
        need("one minor version at a time" in _refusal(lab), "an upgrade by two minor versions is not refused")
        lab.ssh(NODES[0], INSTALLED.format(pins.PREVIOUS))
        log("an upgrade by one")
        asking = subprocess.Popen(lab.twin.ssh(PLANE, "sh -c " + shlex.quote(WATCH)), text=True, stdout=subprocess.PIPE)
        lab.up()
        lab.ssh(PLANE, "touch /run/upgraded")
        answers = asking.communicate(timeout=120)[0].split()
        need(len(answers) > 10 and set(answers) == {"200"}, f"answers: {Counter(answers)}")
        versions = {node["status"]["nodeInfo"]["kubeletVersion"] for node in kubectl(lab, "get nodes")["items"]}
        need(versions == {f"v{pins.KUBERNETES}"}, f"kubelets: {versions}")
        eventually(lambda: ready_nodes(lab) == dict.fromkeys((PLANE, *NODES), True), "all nodes are ready", 300)
        eventually(lambda: not lab.audit_differences(), "nothing differs after the upgrade", 120)
        log("and back")
        lab.edit(_older)
        lab.rackwright("lock", "--fetch", "cluster", status=0)
        need("has no way back" in _refusal(lab), "the way back is not refused")
    return f"from {pins.PREVIOUS} to {pins.KUBERNETES}, node after node: {len(answers)} requests meanwhile, 0 lost"


def _refusal(lab: Lab) -> str:
    """Return the output of a preview that is refused."""
    done = lab.rackwright("preview", "cluster", status=2)
    return " ".join((done.stdout + done.stderr).split())


def _older(fleet: Any) -> None:
    fleet["groups"]["kubernetes"]["roles"]["kubernetes_node"] = {"version": pins.PREVIOUS}
    fleet["hosts"][PLANE]["roles"]["kubernetes_control_plane"]["version"] = pins.PREVIOUS


def _newer(fleet: Any) -> None:
    fleet["groups"]["kubernetes"]["roles"]["kubernetes_node"]["version"] = pins.KUBERNETES
    fleet["hosts"][PLANE]["roles"]["kubernetes_control_plane"]["version"] = pins.KUBERNETES


def _with_snapshots(fleet: Any) -> None:
    role = fleet["hosts"][PLANE]["roles"]["kubernetes_control_plane"]
    secret = {"secret": "cluster_snapshots"}
    role.update(snapshot_directory=DIRECTORY, snapshot_key=secret, snapshots_kept=2)


def _restoring(fleet: Any) -> None:
    fleet["hosts"][PLANE]["roles"]["kubernetes_control_plane"]["restore"] = "latest"


def _need_encrypted(lab: Lab) -> None:
    """Require that no file of the snapshots has a key of the cluster in plain text."""
    line = lab.ssh(PLANE, "sed -n 2p /etc/kubernetes/pki/sa.key")
    found = lab.ssh(PLANE, f"grep --recursive --text --files-with-matches {line} {DIRECTORY} || true")
    need(found == "", f"a key is in plain text in {found}")


def _uid(lab: Lab, name: str) -> str:
    return str(kubectl(lab, f"get {name}").get("metadata", {}).get("uid", ""))


def _word(lab: Lab, name: str) -> str:
    return str(kubectl(lab, f"get {name}").get("data", {}).get("word", ""))


def _days_left(lab: Lab) -> int:
    """Return the days for which the certificate of the API server is valid."""
    report = json.loads(lab.ssh(PLANE, "kubeadm certs check-expiration --output json 2> /dev/null"))
    [seconds] = [each["residualTime"] for each in report["certificates"] if each["name"] == "apiserver"]
    return int(seconds) // 86400
