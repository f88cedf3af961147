"""Line 8: root of one node gets nothing of other nodes, of teams or of the cluster by the account of its kubelet."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rackwright.facts.probe.kubernetes import JOIN_SECRETS
from rackwright.kinds.cluster import join_files
from rackwright.kinds.cluster.cluster import DELETE_TOKENS
from rackwright.kinds.cluster.node_admission import EVENT_BYTES
from rackwright.kinds.cluster.node_admission import objects as node_objects
from rackwright.kinds.cluster.quantity import Object
from rackwright.schema.cluster import HOSTNAME_LABEL
from tests.support.acceptance import line
from tests.support.api_requests import DRY, ApiRequests
from tests.support.api_tier import ApiTier, api_tier
from tests.support.expect import eventually, need
from tests.support.log import Log

SECONDS = 120
PLANE, WORKER, OTHER = "cp-01", "node-01", "node-02"
_V1, _CSR = "/api/v1", "/apis/certificates.k8s.io/v1/certificatesigningrequests"
Account = tuple[str, ...]


def kubelet_of(node: str) -> Account:
    """Return the account of a kubelet, as options of kubectl."""
    return (f"--as=system:node:{node}", "--as-group=system:nodes", "--as-group=system:authenticated")


@line("hardening2", 8, part="nodes")
def test_root_of_a_node_gets_nothing_of_others(log: Log) -> str:
    """A node joins without a token that any node could use, and its account does nothing beside its own work."""
    with nodes(log) as (tier, requests):
        log("requests of a hostile kubelet")
        hostile = [*_hostile(tier)]
        let_in = [
            f"{name}: {status}"
            for name, verb, path, body in hostile
            if (status := requests.ask(verb, path + DRY, body, kubelet_of(WORKER))[0]) not in (403, 413, 422)
        ]
        need(not let_in, f"{len(let_in)} of {len(hostile)} hostile requests: {let_in}")
        log("the work of kubelets")
        work = [*_work(tier)]
        refused = [
            f"{name}: {answer}"
            for name, node, verb, path, body in work
            if (answer := requests.ask(verb, path + DRY, body, kubelet_of(node)))[0] not in (200, 201)
        ]
        need(not refused, f"{len(refused)} of {len(work)} harmless requests are refused: {refused[:5]}")
        log("a join")
        joined = _join(tier, requests)
        log("events until etcd would be full")
        written = _events(requests)
    return (
        f"{len(hostile)} hostile requests of a kubelet were refused and {len(work)} of its own work were not;"
        f" {joined} certificates of other nodes were asked for with the credentials of a join and none was signed;"
        f" {written} events of the largest size took {written * EVENT_BYTES >> 20} MiB at most"
    )


@contextmanager
def nodes(log: Log) -> Iterator[tuple[ApiTier, ApiRequests]]:
    """Yield an API with a control plane and two nodes, whose policies for nodes work."""
    with api_tier(log, log.empty_directory()) as tier:
        requests = ApiRequests(tier.kubeconfig)
        for name in (PLANE, WORKER, OTHER):
            labels = {HOSTNAME_LABEL: name, "rack": "a1", "kubernetes.io/os": "linux"}
            tier.set({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
        for name in ("vision", "kueue-system"):
            tier.set({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        tier.set(*node_objects((PLANE,)))
        body = {"metadata": {"labels": {"rack": "a2"}}}
        path = f"{_V1}/nodes/{WORKER}{DRY}"
        eventually(
            lambda: requests.ask("PATCH", path, body, kubelet_of(WORKER))[0] == 422, "the policies work", SECONDS
        )
        yield tier, requests


def _uid(tier: ApiTier, node: str) -> str:
    return str(tier.read("node", node)["metadata"]["uid"])


def _mirror(tier: ApiTier, node: str, name: str, namespace: str, labels: dict[str, str]) -> Object:
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": _uid(tier, node), "controller": True}
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": labels,
        "annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [owner],
    }
    tolerations = [{"operator": "Exists", "effect": "NoExecute"}]
    spec = {"nodeName": node, "containers": [{"name": "a", "image": "x"}], "tolerations": tolerations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _hostile(tier: ApiTier) -> Iterator[tuple[str, str, str, Any]]:
    """Yield requests of the kubelet of WORKER: name, verb, path, content."""
    for namespace in ("kube-system", "kube-public", "default", "vision", "kueue-system"):
        for labels in ({"k8s-app": "kube-dns"}, {"app": "x"}, {}, {"component": "etcd", "tier": "control-plane"}):
            for name in ("etcd-node-01", "dns"):
                path = f"{_V1}/namespaces/{namespace}/pods"
                yield f"pod {namespace} {labels}", "POST", path, _mirror(tier, WORKER, name, namespace, labels)
    system = f"{_V1}/namespaces/kube-system/pods"
    static = {"component": "etcd", "tier": "control-plane"}
    yield "static pod of another", "POST", system, _mirror(tier, WORKER, f"etcd-{PLANE}", "kube-system", static)
    own = f"{_V1}/nodes/{WORKER}"
    for part in ("", "/status"):
        changes: tuple[dict[str, str | None], ...] = (
            {HOSTNAME_LABEL: OTHER},
            {HOSTNAME_LABEL: None},
            {"rack": "a2"},
            {"rack": None},
            {"new": "x"},
            {"topology.kubernetes.io/zone": "x"},
            {"node.kubernetes.io/instance-type": "x"},
            {"kubelet.kubernetes.io/x": "y"},
            {"node-role.kubernetes.io/control-plane": ""},
            {"node-restriction.kubernetes.io/x": "y"},
        )
        for change in changes:
            yield f"labels{part} {change}", "PATCH", own + part, {"metadata": {"labels": change}}
        large = {"metadata": {"annotations": {"a": "x" * 200_000}}}
        yield f"a large node{part}", "PATCH", own + part, large
    yield "taints", "PATCH", own, {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
    yield "another node", "PATCH", f"{_V1}/nodes/{OTHER}", {"spec": {"unschedulable": True}}
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-03", "labels": {"rack": "a1"}}}
    yield "a new node", "POST", f"{_V1}/nodes", made
    conditions = [{"type": "Ready", "status": "True", "message": "x" * 200_000}]
    yield "a large condition", "PATCH", f"{own}/status", {"status": {"conditions": conditions}}
    images = [{"names": ["x" * 100_000], "sizeBytes": 1}] * 3
    yield "large images", "PATCH", f"{own}/status", {"status": {"images": images}}
    for namespace in ("vision", "default", "kube-system"):
        for size in (EVENT_BYTES, 100_000, 1_300_000):
            for version in ("v1", "events.k8s.io/v1"):
                item = _event(version, namespace, size)
                base = _V1 if version == "v1" else f"/apis/{version}"
                yield f"event of {size} in {namespace}", "POST", f"{base}/namespaces/{namespace}/events", item
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": WORKER, "namespace": "kube-node-lease", "annotations": {"a": "x" * 200_000}},
    }
    yield "a large lease", "POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease


def _event(version: str, namespace: str, size: int, name: str = "e") -> Object:
    """Return an event whose fields without a limit of their own have *size* bytes."""
    about = {"kind": "Pod", "namespace": namespace, "name": "x", "fieldPath": "y" * size}
    common = {"apiVersion": version, "kind": "Event", "metadata": {"name": name, "namespace": namespace}}
    if version == "v1":
        source = {"component": "kubelet", "host": WORKER}
        return {**common, "involvedObject": about, "reason": "a", "message": "m", "type": "Normal", "source": source}
    more = {"eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "kubelet", "action": "a"}
    return {**common, **more, "regarding": about, "reason": "a", "type": "Normal", "reportingInstance": WORKER}


def _work(tier: ApiTier) -> Iterator[tuple[str, str, str, str, Any]]:
    """Yield what kubelets do: name, node, verb, path, content."""
    system = f"{_V1}/namespaces/kube-system/pods"
    for component in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        labels = {"component": component, "tier": "control-plane"}
        pod = _mirror(tier, PLANE, f"{component}-{PLANE}", "kube-system", labels)
        yield f"static pod {component}", PLANE, "POST", system, pod
    for node in (WORKER, PLANE):
        own = f"{_V1}/nodes/{node}"
        images = [{"names": [f"registry.example/{'x' * 80}/{each}@sha256:{'0' * 64}"] * 2, "sizeBytes": each}
                  for each in range(50)]  # fmt: skip
        labels = {HOSTNAME_LABEL: node, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "rack": "a1"}
        yield "labels", node, "PATCH", own, {"metadata": {"labels": labels}}
        yield "annotations", node, "PATCH", own, {"metadata": {"annotations": {"rackwright.local/fleet": "lab"}}}
        yield "status", node, "PATCH", f"{own}/status", {"status": {"images": images}}
        for size in (10, 1000):
            yield f"event {size}", node, "POST", f"{_V1}/namespaces/vision/events", _event("v1", "vision", size)
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": node, "namespace": "kube-node-lease"},
        }
        yield "lease", node, "POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease
    labels = {HOSTNAME_LABEL: "node-03", "kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64"}
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-03", "labels": labels}}
    yield "a new node", "node-03", "POST", f"{_V1}/nodes", made


def _join(tier: ApiTier, requests: ApiRequests) -> int:
    """Join a node as the plan does; return how many certificates of other nodes were refused to it."""
    place = tier.directory / "join"
    (place / "pki").mkdir(parents=True)
    for name in ("crt", "key"):
        (place / f"pki/ca.{name}").write_bytes((tier.directory / f"authority.{name}").read_bytes())
    address = json.loads(tier.kubeconfig.read_text())["clusters"][0]["cluster"]["server"].removeprefix("https://")
    host, _, port = address.partition(":")
    (place / "kubeadm.yaml").write_text(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint:"
        f" {{advertiseAddress: 192.0.2.1, bindPort: {port}}}\n---\n"
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n"
        f'certificatesDir: {place}/pki\ncontrolPlaneEndpoint: "192.0.2.1:{port}"\nkubernetesVersion: v1.37.2\n'
    )
    invite = join_files.INVITE.replace("/etc/rackwright/kubernetes/kubeadm.yaml", str(place / "kubeadm.yaml"))
    invite = invite.replace("kubeadm kubeconfig", f"{tier.built / 'kubeadm'} kubeconfig")
    invite = invite.replace("/etc/kubernetes/admin.conf", str(tier.kubeconfig))
    argv = ("sh", "-c", invite, "sh", WORKER, address)
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    need(host in printed and "192.0.2.1" not in printed, "the credentials lead to another API")
    credentials = place / "join.conf"
    credentials.write_text(printed)
    _bind(tier)
    tokens = tier.ask("get", "secrets", "--all-namespaces", "--field-selector=type=bootstrap.kubernetes.io/token")
    need(not tokens.strip(), f"there are tokens: {tokens}")
    # the certificate that kubelet asks for, as itself, is signed; those of others are not
    need(
        _signed(tier, credentials, f"system:node:{WORKER}", "system:nodes", "own"), "its own certificate is not signed"
    )
    others = [
        (f"system:node:{OTHER}", "system:nodes"),
        (f"system:node:{PLANE}", "system:nodes"),
        ("system:node:node-03", "system:nodes"),
        ("administrator", "system:masters"),
        (f"system:node:{WORKER}", "system:masters"),
    ]
    signed = [each for number, each in enumerate(others) if _signed(tier, credentials, *each, f"other-{number}")]
    need(not signed, f"certificates of others were signed: {signed}")
    return len(others)


def _bind(tier: ApiTier) -> None:
    """Make kubeadm's own bindings of joins, and delete the token that kubeadm makes with them as the plan does."""
    config = json.loads(tier.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    authority = Path(cluster.pop("certificate-authority")).read_bytes()
    cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    path = tier.directory / "kubeadm.conf"
    path.write_text(json.dumps(config))
    argv = (str(tier.built / "kubeadm"), "init", "phase", "bootstrap-token", "--kubeconfig", str(path))
    subprocess.run((*argv, "--skip-token-print"), check=True, capture_output=True)
    listed = ("get", "secrets", "--namespace=kube-system", f"--field-selector=type={JOIN_SECRETS}", "--output=name")
    need(tier.ask(*listed).strip().startswith("secret/bootstrap-token-"), "kubeadm has made no token")
    tier.ask(*DELETE_TOKENS.argv[DELETE_TOKENS.argv.index("delete") :])


def _signed(tier: ApiTier, credentials: Path, name: str, group: str, request: str) -> bool:
    """Ask for a certificate with the *credentials* of a join, and return whether it was signed."""
    key, path = tier.directory / f"{request}.key", tier.directory / f"{request}.csr"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    argv = ("openssl", "req", "-new", *curve, "-keyout", key, "-out", path, "-subj", f"/O={group}/CN={name}")
    subprocess.run(argv, check=True, capture_output=True)
    spec = {
        "request": base64.b64encode(path.read_bytes()).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"],
    }
    item = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "spec": spec}
    text = json.dumps({**item, "metadata": {"name": request}})
    command = (str(tier.built / "kubectl"), "--kubeconfig", str(credentials), "create", "--filename=-")
    made = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if made.returncode:
        return False
    end = time.monotonic() + (SECONDS if request == "own" else 5)
    while time.monotonic() < end:
        if tier.read("csr", request).get("status", {}).get("certificate"):
            return True
        time.sleep(0.5)
    return False


def _events(requests: ApiRequests) -> int:
    """Write the largest events as fast as the API takes them, and return how many a node writes in an hour."""
    count, text = 0, "y" * (EVENT_BYTES - 1500)
    began = time.monotonic()
    while time.monotonic() < began + 120:
        item = _event("v1", "vision", 0, f"e{count}")
        item["involvedObject"]["fieldPath"] = text
        status, answer = requests.ask("POST", f"{_V1}/namespaces/vision/events", item, kubelet_of(WORKER))
        if status == 429:
            break
        need(status == 201, f"event {count}: {answer}")
        count += 1
    need(status == 429, f"{count} events of a node were taken in 120 s, and none was refused")
    other = requests.ask("POST", f"{_V1}/namespaces/vision/events{DRY}", _event("v1", "vision", 9), kubelet_of(OTHER))
    need(other[0] == 201, f"another node is refused: {other[1]}")
    seconds = time.monotonic() - began
    need(count <= 500 + 6 * seconds + 1, f"{count} events in {seconds:.0f} s")
    return 500 + 5 * 3600
