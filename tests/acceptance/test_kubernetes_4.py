"""Line 4: who may do what in a cluster, and what a pod and a stranger reach."""

import re

from tests.support.acceptance import line
from tests.support.cis_kubernetes import checks
from tests.support.expect import eventually, need
from tests.support.kubernetes import HOSTS, KUBECTL, NODES, PLANE, cluster, kubectl
from tests.support.lab import Lab, format_claims
from tests.support.log import Log

TEAM, OTHER = "vision", "speech"
ACCESS = {
    "operator": {
        "vision-operators": (
            *("create pods", "delete pods", "get pods/log", "create jobs.batch", "patch deployments.apps"),
            *("create services", "list events"),
        ),
    },
    "viewer": {"auditors": ("get pods", "list jobs.batch", "watch deployments.apps", "get pods/log")},
}
"""Verbs that each function is allowed in its namespace, by its group."""
REFUSED = {
    "vision-operators": (
        *("get secrets", "create rolebindings.rbac.authorization.k8s.io", "create pods/exec", "patch resourcequotas"),
        *("delete networkpolicies.networking.k8s.io", "update roles.rbac.authorization.k8s.io", "patch namespaces"),
    ),
    "auditors": ("create pods", "delete jobs.batch", "get secrets", "create pods/exec", "patch deployments.apps"),
}
"""Verbs that each group is refused there."""
OF_THE_CLUSTER = ("list nodes", "patch nodes", "list namespaces", "list persistentvolumes", "impersonate users")
CONFINED = (
    "securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, runAsUser: 1000, "
    "capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}"
)
CONTAINER = (
    "{name: coredns, image: registry.k8s.io/coredns/coredns:v1.14.6, imagePullPolicy: Never, "
    f"args: [-conf, /settings/Corefile], volumeMounts: [{{name: settings, mountPath: /settings}}], {CONFINED}}}"
)
POD = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: answering, namespace: TEAM}
data: {Corefile: ".:1053 {\\n health :8080\\n}\\n"}
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: TEAM}
spec:
  nodeSelector: {kubernetes.io/hostname: NODE}
  containers: [CONTAINER]
  volumes: [{name: settings, configMap: {name: answering}}]
"""
"""A pod that answers for its health."""
FORBIDDEN = {
    "a path of the host": "volumes: [{name: host, hostPath: {path: /}}]",
    "the network of the host": "hostNetwork: true",
    "the processes of the host": "hostPID: true",
    "more GPUs than the team has": "GPUS",
    "root": "ROOT",
}
"""Pods that a team may not have."""
OPEN = {22: "SSH", 2379: "etcd", 2380: "etcd", 6443: "API", 10250: "kubelet", 10256: "health of kube-proxy"}
"""Ports that a control plane shows other hosts; a node has neither etcd nor the API."""
SCAN = """\
import socket, sys
for port in range(1, 65536):
    with socket.socket() as client:
        client.settimeout(2)
        if client.connect_ex((sys.argv[1], port)) == 0:
            print(port)
"""


@line("kubernetes", 4)
def test_each_function_and_pod_reaches_what_it_may_and_nothing_else(log: Log) -> str:
    """Verbs by function, pods of two teams, host paths and the API from a pod, and all ports of two hosts."""
    with cluster(log) as lab:
        lab.up()
        log("verbs of each function")
        allowed, refused = _need_access(lab)
        log("pods of two teams")
        pods = {"a": (TEAM, NODES[0]), "b": (TEAM, NODES[1]), "c": (OTHER, NODES[0]), "d": (OTHER, NODES[1])}
        manifests = "---\n".join(_manifest(name, *place) for name, place in pods.items())
        lab.ssh(PLANE, f"{KUBECTL} apply --filename - << 'END'\n{manifests}\nEND")
        eventually(lambda: len(_addresses(lab)) == len(pods), "all pods run", 300)
        reached = _reached(lab, pods)
        wanted = {(a, b) for a in pods for b in pods if a != b and pods[a][0] == pods[b][0]}
        need(reached == wanted, f"reached, and should not: {reached - wanted}; not reached: {wanted - reached}")
        _need_no_api(lab)
        log("rules and a plugin that were deleted by hand")
        lab.ssh(NODES[0], "nft delete table inet rackwright_teams; rm /usr/lib/cni/rackwright-teams")
        found = lab.differing()
        broken = ("nftables:rackwright_teams", "file:/usr/lib/cni/rackwright-teams")
        need(found == {(f"{NODES[0]}/kubernetes_node", thing) for thing in broken}, format_claims(found))
        lab.up()
        need(_reached(lab, pods) == wanted, "teams are not kept apart again")
        log("pods that a team may not have")
        for name, text in FORBIDDEN.items():
            need(_is_refused(lab, text), f"a pod of a team may have {name}")
        log("ports from outside")
        open_ports = {host: _ports(lab, host) for host in HOSTS[:2]}
        need(open_ports[PLANE] == set(OPEN), f"{PLANE} shows {sorted(open_ports[PLANE])}")
        need(open_ports[NODES[0]] == {22, 10250, 10256}, f"{NODES[0]} shows {sorted(open_ports[NODES[0]])}")
        _need_closed_to_strangers(lab)
    return (
        f"{allowed} verbs allowed and {refused} refused; {len(wanted)} of {len(pods) * (len(pods) - 1)} paths between "
        f"pods are open; {len(FORBIDDEN)} sorts of pods refused; ports of {PLANE}: {sorted(open_ports[PLANE])}"
    )


@line("kubernetes", 4, part="cis")
def test_checks_of_the_cis_benchmark_have_the_state_of_their_page(log: Log) -> str:
    """Each check of the page that can be run is run on the control plane or a node: met or not met, as written."""
    with cluster(log) as lab:
        lab.up()
        rows = [row for row in checks() if "test" in row]
        met = {row["id"]: _is_met(lab, row) for row in rows}
        wrong = [row["id"] for row in rows if met[row["id"]] == (row["state"] == "open")]
        need(not wrong, f"another state than that of the page: {wrong}")
    return f"{len(rows)} checks run: {sum(met.values())} met, {len(rows) - sum(met.values())} not met, as the page says"


def _is_met(lab: Lab, row: dict[str, str]) -> bool:
    host = NODES[0] if row.get("at") == "node" else PLANE
    names = f"M=/etc/kubernetes/manifests\nK=/var/lib/kubelet/config.yaml\nKUBECTL='{KUBECTL}'\n"
    return lab.ssh(host, f"{names}if {row['test']}\nthen echo met; fi") == "met"


def _need_access(lab: Lab) -> tuple[int, int]:
    """Require that each group may do what its function allows in its namespace, and nothing more."""
    asked: list[tuple[str, str, str, bool]] = []
    for groups in ACCESS.values():
        for group, verbs in groups.items():
            asked += [(group, verb, TEAM, True) for verb in verbs]
            asked += [(group, verb, TEAM, False) for verb in REFUSED[group]]
            asked += [(group, verb, OTHER, False) for verb in verbs]
            asked += [(group, verb, "kube-system", False) for verb in verbs]
            asked += [(group, verb, "default", False) for verb in OF_THE_CLUSTER]
    ask = "kubectl auth can-i {1} --as=person --as-group={0} --namespace={2} 2> /dev/null || true"
    # after a slash kubectl expects the name of an object
    script = "\n".join(
        ask.format(group, verb.replace("/", " --subresource="), space) for group, verb, space, _ in asked
    )
    done = lab.rackwright("cluster", "exec", "cluster", "--", "sh", "-c", script, status=0)
    answers = done.stdout.split()
    need(len(answers) == len(asked), f"{len(answers)} answers to {len(asked)} questions")
    wrong = [each for each, answer in zip(asked, answers, strict=True) if (answer == "yes") != each[3]]
    need(not wrong, f"other rights than declared: {wrong}")
    return sum(each[3] for each in asked), sum(not each[3] for each in asked)


def _manifest(name: str, team: str, node: str) -> str:
    words = {"TEAM": team, "NAME": name, "NODE": node, "CONTAINER": CONTAINER}
    return re.sub("|".join(words), lambda match: words[match[0]], POD)


def _addresses(lab: Lab) -> dict[str, str]:
    """Return the address of each running pod."""
    items = [item for team in (TEAM, OTHER) for item in kubectl(lab, f"get pods --namespace {team}")["items"]]
    return {item["metadata"]["name"]: item["status"]["podIP"] for item in items if item["status"]["phase"] == "Running"}


def _in_pod(name: str, command: str) -> str:
    """Return the script of a node that runs *command* in the network of a pod."""
    label = f"""labels."io.kubernetes.pod.name"=={name},labels."io.kubernetes.container.name"==coredns"""
    return (
        f"id=$(ctr -n k8s.io containers list -q '{label}' | head -n 1)\n"
        "pid=$(ctr -n k8s.io tasks list | awk -v id=$id '$1 == id {print $2}')\n"
        f"nsenter --net --target $pid {command}"
    )


def _get(url: str) -> str:
    return f"curl --insecure --silent --max-time 3 --output /dev/null --write-out '%{{http_code}}' {url} || true"


def _reached(lab: Lab, pods: dict[str, tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the pairs of pods of which the first reaches the second."""
    addresses = _addresses(lab)
    return {
        (a, b)
        for a, (_, node) in pods.items()
        for b, address in addresses.items()
        if a != b and lab.ssh(node, _in_pod(a, _get(f"http://{address}:8080/health"))) == "200"
    }


def _need_no_api(lab: Lab) -> None:
    """Require that a pod reaches neither the API nor kubelets, and that without a token the API refuses everybody."""
    for url in ("https://10.96.0.1/api", "https://10.41.0.11:6443/api", "https://10.41.0.12:10250/pods"):
        status = lab.ssh(NODES[0], _in_pod("a", _get(url)))
        need(status == "000", f"a pod reaches {url}: {status}")
    status = lab.ssh(NODES[0], _get("https://10.96.0.1/api"))
    need(status == "401", f"the API answers without a token with {status}")


def _is_refused(lab: Lab, text: str) -> bool:
    """Return whether the API refuses a pod of a team with *text* in its specification."""
    context, limits = CONFINED, ""
    if text == "ROOT":
        context, text = "securityContext: {runAsUser: 0}", ""
    if text == "GPUS":
        limits, text = ", resources: {limits: {nvidia.com/gpu: 5}}", ""
    pod = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: refused, namespace: {TEAM}}}
spec:
  containers: [{{name: x, image: x, {context}{limits}}}]
  {text}
"""
    tried = f"{KUBECTL} apply --dry-run=server --filename - << 'END' 2>&1 || true\n{pod}\nEND"
    return "forbidden" in lab.ssh(PLANE, tried)


def _ports(lab: Lab, host: str) -> set[int]:
    """Return the TCP ports of *host* that another host reaches."""
    address = f"10.41.0.{11 + HOSTS.index(host)}"
    return {*map(int, lab.ssh(NODES[1], f"python3 - {address} << 'END'\n{SCAN}END").split())}


def _need_closed_to_strangers(lab: Lab) -> None:
    """Require that each open port of the cluster asks for a certificate or answers for its health alone."""
    for url, wanted in {
        "https://10.41.0.11:2379/health": "000",
        "https://10.41.0.11:2380/members": "000",
        "https://10.41.0.11:6443/api/v1/secrets": "401",
        "https://10.41.0.11:10250/pods": "401",
        "http://10.41.0.11:10256/metrics": "404",
    }.items():
        status = lab.ssh(NODES[1], _get(url))
        need(status == wanted, f"{url} answers a stranger with {status}")
