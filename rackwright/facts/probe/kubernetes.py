"""Kubernetes on the host: the cluster that its kubelet has joined, and on a control plane what the API says."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from rackwright.facts.probe.declared_objects import NAME_LABEL, as_declared, digest, name_of, read_manifests
from rackwright.facts.probe.observe import OutputTooLarge, ReadError, attempt, read, run_tool, unknown_value

KUBELET = "/etc/kubernetes/kubelet.conf"
ADMINISTRATOR = "/etc/kubernetes/admin.conf"
SETTINGS = "/etc/rackwright/kubernetes/kubeadm.yaml"
"""Configuration of kubeadm by role kubernetes_control_plane."""
ADDONS = ("kube-proxy", "coredns")
"""Objects by which kubeadm runs its addons, in kube-system."""
CONTROL_PLANE = "tier=control-plane"
"""Label of the static pods that kubeadm makes on control planes."""
PLANE_LABEL = "node-role.kubernetes.io/control-plane"
"""Label that kubeadm gives the nodes of a control plane. No kubelet can give it to its own node."""
JOIN_SECRETS = "bootstrap.kubernetes.io/token"
"""Type of the secrets with tokens by which hosts join."""
ADMISSION_OPTION = "--enable-admission-plugins="
TAKEN = "/var/lib/rackwright/kubernetes/taken"
"""File that each snapshot of etcd touches at its end."""
OBJECTS = (
    *("namespaces", "priorityclasses", "resourcequotas", "limitranges", "networkpolicies", "roles", "rolebindings"),
    *("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
    *("prioritylevelconfigurations", "flowschemas"),
)
"""Kinds of objects that give teams rights and limits. None of them has a secret."""
WORKLOADS = {
    "Job": "/apis/batch/v1/jobs",
    "Deployment": "/apis/apps/v1/deployments",
    "Service": "/api/v1/services",
    "PodDisruptionBudget": "/apis/policy/v1/poddisruptionbudgets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/horizontalpodautoscalers",
    "PersistentVolumeClaim": "/api/v1/persistentvolumeclaims",
    "PersistentVolume": "/api/v1/persistentvolumes",
}
"""The lists of the objects of runs and servers, by kind. None of them has a secret."""
KUEUE = "kueue.x-k8s.io"
"""Group of the API of Kueue."""
QUEUE_OBJECTS = tuple(f"{name}.{KUEUE}" for name in ("resourceflavors", "clusterqueues", "localqueues"))
"""Kinds of objects that give teams queues."""
JOB_SETS = "jobsets.jobset.x-k8s.io"
JOB_SET_LISTS = {"JobSet": "/apis/jobset.x-k8s.io/v1alpha2/jobsets"}
QUEUED = {"Workload": f"/apis/{KUEUE}/v1beta2/workloads"}
"""The list of the jobs that Kueue knows."""
LEADER_WORKER_SET = "leaderworkerset.x-k8s.io"
"""Group of the API of LeaderWorkerSet."""
GROUPS = f"leaderworkersets.{LEADER_WORKER_SET}"
GROUP_LISTS = {"LeaderWorkerSet": f"/apis/{LEADER_WORKER_SET}/v1/leaderworkersets"}
PAGE_ITEMS = 100
"""Objects in one answer to a list; half of it after each answer that is too large."""
OBJECT_BYTES = 128 << 10
"""Size of one object of a run or server as text. Those of rackwright have about 5 KiB."""
NAMESPACE_BYTES = 4 << 20
"""Size of all objects of one namespace together."""
WORKLOAD_BYTES = 24 << 20
"""Size of all objects together; the namespaces with the most bytes are left out first."""
MESSAGE_LENGTH = 1000
NODE_BYTES = 64 << 10
"""Size of the properties of one node together."""
METRICS = "/usr/share/kubernetes-metrics/manifests.json"
"""The objects of Metrics Server, which has no kinds of its own."""
CONTROLLER_OBJECTS = ("serviceaccounts", "configmaps", "services", "deployments", "roles", "rolebindings")
CONTROLLER_PLACES = (
    *("namespaces", "clusterroles", "clusterrolebindings", "customresourcedefinitions"),
    *("mutatingwebhookconfigurations", "validatingwebhookconfigurations", "apiservices"),
)
"""Kinds of the objects of controllers such as Kueue, in namespaces and outside, without the secrets of certificates."""
PART_OF = "rackwright.local/part-of"
"""Label of the objects of controllers, which says which ones."""
MANAGED_BY = "app.kubernetes.io/managed-by=rackwright"
"""Label of the objects of runs and servers."""
PRESSURE = ("DiskPressure", "MemoryPressure", "NetworkUnavailable", "PIDPressure")
"""Conditions of a node that are true when it lacks something."""
MARK = "rackwright.local/fleet"
"""Annotation with which a node joins: the fleet that declares it."""
CONTROLLERS = {"kube-controller-manager", "kube-apiserver", "kueue", "jobset", "lws"}
"""Programs that set fields of objects because that is their work."""
FLOWS = ("PriorityLevelConfiguration", "FlowSchema")
AUTOMATIC = "apf.kubernetes.io/autoupdate-spec"
"""Annotation of the levels and schemas that the API server itself makes. The one named exempt shows that the kind was
listed, which earlier probes did not do."""
REQUEST_LIMIT = "--request-timeout=20s"
"""Option with the time limit of one request to the API."""
WAIT_SECONDS = 15
"""Seconds that failed questions to the API may take together. Without etcd an API keeps each of them waiting."""


class Api:
    """The API as kubectl reaches it. When failed questions have taken WAIT_SECONDS, it is not asked again."""

    def __init__(self) -> None:
        self.waited = 0.0

    def ask(self, *arguments: str) -> str:
        """Return what kubectl prints.

        Raises:
            ReadError: kubectl is not installed or fails, or the API did not answer earlier questions.
        """
        if self.waited > WAIT_SECONDS:
            raise ReadError("the API did not answer an earlier question in time, and was not asked again")
        began = time.monotonic()
        try:
            return run_tool("kubectl", "--kubeconfig", ADMINISTRATOR, REQUEST_LIMIT, *arguments)
        except ReadError:
            self.waited += time.monotonic() - began
            raise


API = Api()


def node(root: str) -> dict[str, str] | None:
    """Return the address of the API that kubelet asks, and the digest of its authority; None if it joined no cluster.

    Raises:
        ReadError: the file of kubelet has another form than kubeadm writes.
    """
    path = root + KUBELET
    if not os.path.exists(path):
        return None
    text = read(path)
    server = re.search(r"^ *server: (\S+)$", text, re.MULTILINE)
    authority = re.search(r"^ *(?:certificate-authority-data): (\S+)$", text, re.MULTILINE)
    if not (server and authority):
        raise ReadError(f"{KUBELET} names no server with its authority")
    return {"server": server[1], "authority": hashlib.sha256(authority[1].encode()).hexdigest()}


def cluster(root: str) -> dict[str, Any] | None:
    """Return what the API of a control plane says about the cluster; None on other hosts."""
    if not os.path.exists(root + ADMINISTRATOR):
        return None
    API.waited = 0.0
    nodes = attempt(lambda: query("get", "nodes")["items"])
    served = attempt(api_groups)
    unknown = served if isinstance(served, dict) else None
    groups = () if isinstance(served, dict) else served
    return {
        "version": attempt(lambda: query("version")["serverVersion"]["gitVersion"]),
        "nodes": attempt(lambda: states(nodes)) if isinstance(nodes, list) else nodes,
        "objects": unknown or attempt(lambda: objects(KUEUE in groups)),
        "admission": attempt(admission),
        "addons": attempt(addons),
        "components": attempt(components),
        "join_tokens": attempt(join_tokens),
        "workloads": unknown or attempt(lambda: workloads(groups)),
        "queue": unknown or (attempt(lambda: queue(root)) if KUEUE in groups else None),
        "groups": unknown or (attempt(lambda: controllers("groups", root)) if LEADER_WORKER_SET in groups else None),
        # the API does not list the group of a Metrics Server that has nothing to report
        "metrics": attempt(lambda: controllers("metrics", root)) if os.path.exists(root + METRICS) else None,
    }


def certificates(root: str) -> dict[str, str] | None:
    """Return the end of validity of each certificate of a control plane by kubeadm's name; None on other hosts."""
    if not os.path.exists(root + ADMINISTRATOR):
        return None
    # without a configuration, kubeadm asks the API for it
    settings = ("--config", SETTINGS) if os.path.exists(root + SETTINGS) else ()
    try:
        report = json.loads(run_tool("kubeadm", "certs", "check-expiration", *settings, "--output", "json"))
    except ValueError:
        raise ReadError("kubeadm prints no JSON") from None
    found = [*report["certificates"], *report["certificateAuthorities"]]
    return {each["name"]: each["expirationDate"] for each in found if not each["missing"]}


def snapshot_age_hours() -> float:
    """Return the age of the newest snapshot of etcd, in hours.

    Raises:
        ReadError: the host has taken none.
    """
    try:
        return max(0.0, (time.time() - os.stat(TAKEN).st_mtime) / 3600)
    except FileNotFoundError:
        raise ReadError("no snapshot of etcd was taken") from None


def addons() -> dict[str, str]:
    """Return the version of each addon of kubeadm, which is the tag of its image."""
    items = query("get", "daemonsets,deployments", "--namespace=kube-system")["items"]
    images = {item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0]["image"] for item in items}
    return {name: images[name].rpartition(":")[2] for name in ADDONS if name in images}


def static_pods(component: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the component, the node and the pod of each static pod of a control plane.

    A kubelet shows pods with any labels as its own. Pods of nodes without the label of control planes, and pods
    without the name that kubeadm gives, say nothing about a control plane.
    """
    planes = {item["metadata"]["name"] for item in query("get", "nodes", f"--selector={PLANE_LABEL}")["items"]}
    selector = f"--selector={CONTROL_PLANE}{',component=' * bool(component)}{component}"
    for pod in query("get", "pods", "--namespace=kube-system", selector)["items"]:
        name, node = pod["metadata"].get("labels", {}).get("component"), pod["spec"].get("nodeName")
        if node in planes and name and pod["metadata"]["name"] == f"{name}-{node}":
            yield name, node, pod


def admission() -> dict[str, Any]:
    """Return the admission plugins that the options of each API server enable, by the node of the server."""
    return {node: attempt(plugins, pod) for _, node, pod in static_pods("kube-apiserver")}


def plugins(pod: dict[str, Any]) -> list[str]:
    [container] = pod["spec"]["containers"]
    values = [each.partition("=")[2] for each in container["command"] if each.startswith(ADMISSION_OPTION)]
    return sorted(values[-1].split(",")) if values else []


def components() -> dict[str, list[str]]:
    """Return the nodes on which each component of the control plane is ready, by kubeadm's name of the component."""
    found: dict[str, list[str]] = {}
    for name, node, pod in static_pods():
        nodes = found.setdefault(name, [])
        conditions = pod.get("status", {}).get("conditions", [])
        if any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions):
            nodes.append(node)
    return {name: sorted(nodes) for name, nodes in sorted(found.items())}


def join_tokens() -> list[str]:
    """Return the names of the secrets with tokens by which hosts join, without their content."""
    selector = f"--field-selector=type={JOIN_SECRETS}"
    names = API.ask("get", "secrets", "--namespace=kube-system", selector, "--output=name").split()
    return sorted(name.partition("/")[2] for name in names)


def api_groups() -> list[str]:
    """Return the names of the groups that the API serves."""
    return sorted({each.partition("/")[0] for each in API.ask("api-versions").split()})


def queue(root: str) -> dict[str, Any]:
    """Return the objects of Kueue and JobSet, whether both are ready, and the jobs that Kueue knows."""
    entries = ((namespace_of(item), name, item) for item in list_objects(QUEUED) for name in owners(item))
    return {**controllers("queue", root), "jobs": bound_entries(entries, waiting)}


def controllers(name: str, root: str = "") -> dict[str, Any]:
    """Return the objects of the controllers *name*, and whether all of them are ready.

    A team can give objects of its own the label of controllers. Objects count, and are read, only in namespaces that
    have it too, and in that of the system.

    Raises:
        ReadError: the host has no manifests of the controllers, or the API does not answer.
    """
    manifests = read_manifests(f"{root}/usr/share/kubernetes-{name}/manifests.json")
    selected = (f"--selector={PART_OF}={name}", "--show-managed-fields")
    items = query("get", ",".join(CONTROLLER_PLACES), *selected)["items"]
    places = {"kube-system", *(item["metadata"]["name"] for item in items if item["kind"] == "Namespace")}
    for place in sorted(places):
        items += query("get", ",".join(CONTROLLER_OBJECTS), f"--namespace={place}", *selected)["items"]
    available = [item["status"].get("availableReplicas", 0) > 0 for item in items if item["kind"] == "Deployment"]
    return {
        "ready": bool(available) and all(available),
        "objects": {name_of(item): controller_object(item, manifests.get(name_of(item))) for item in items},
    }


def controller_object(item: dict[str, Any], manifest: dict[str, Any] | None) -> dict[str, Any]:
    """Return the digest of an object as it is: the digest of its manifest, unless another value was set or added."""
    content = "" if manifest is None else digest(as_declared(item, manifest))
    return {"content": content, "managers": managers(item["metadata"].get("managedFields", []))}


def owners(item: dict[str, Any]) -> list[str]:
    """Return the names of the jobs for which Kueue has made *item*: one."""
    metadata = item["metadata"]
    return [f"{metadata['namespace']}/{each['kind']}/{each['name']}" for each in metadata.get("ownerReferences", [])]


def waiting(item: dict[str, Any]) -> dict[str, Any]:
    """Return what Kueue says about a job; one that did not start in time waits from then on."""
    spec = item["spec"]
    found = {each["type"]: each for each in item.get("status", {}).get("conditions", [])}
    true = {name for name, each in found.items() if each["status"] == "True"}
    late = found.get("Evicted", {})
    since = item["metadata"]["creationTimestamp"]
    if "Evicted" in true and late.get("reason") == "PodsReadyTimeout":
        since = late["lastTransitionTime"]
    return {
        "queue": spec.get("queueName", ""),
        "active": spec.get("active", True),
        "priority": spec.get("priority", 0),
        "since": since,
        "admitted": "Admitted" in true,
        "finished": "Finished" in true,
        "message": found.get("QuotaReserved", {}).get("message", "")[:MESSAGE_LENGTH],
    }


def objects(queued: bool) -> dict[str, Any]:
    """Return the contents of all objects of teams by namespace, kind and name; not those of Kubernetes itself."""
    kinds = (*OBJECTS, *(QUEUE_OBJECTS if queued else ()))
    return contents(query("get", ",".join(kinds), "--all-namespaces")["items"])


def contents(items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the contents of *items* by namespace, kind and name, without those of Kubernetes itself."""
    return dict(sorted((name_of(item), content(item)) for item in items if not is_of_kubernetes(item)))


def workloads(groups: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Return the objects of runs and servers by namespace, kind and name, each with who has changed it.

    Args:
        groups: Groups that the API serves.
    """
    lists = {
        **WORKLOADS,
        **(JOB_SET_LISTS if KUEUE in groups else {}),
        **(GROUP_LISTS if LEADER_WORKER_SET in groups else {}),
    }
    return dict(sorted(bound_objects(list_objects(lists, MANAGED_BY)).items()))


def list_objects(lists: dict[str, str], selector: str = "") -> Iterator[dict[str, Any]]:
    """Yield all objects of *lists*, which are paths of the API by kind, page by page."""
    for kind, path in lists.items():
        start, limit = "", PAGE_ITEMS
        while True:
            parts = {"limit": str(limit), "labelSelector": selector, "continue": start}
            try:
                page = ask_page(f"{path}?{urlencode({key: each for key, each in parts.items() if each})}")
            except OutputTooLarge:
                if limit == 1:
                    raise
                limit //= 2
                continue
            yield from ({**item, "kind": kind} for item in page["items"])
            start = page["metadata"].get("continue", "")
            if not start:
                break


def ask_page(target: str) -> Any:
    """Return the answer about a path and query, which kubectl passes on as it is."""
    return parse(API.ask("get", "--raw", target))


def bound_objects(items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return *items* by namespace, kind and name. An object that is too large is unknown, and no other one is.

    Operators of a team choose the number and the content of objects in their namespace, and their labels.
    """
    return bound_entries(((namespace_of(item), name_of(item), item) for item in items), workload)


def bound_entries(
    entries: Iterable[tuple[str, str, dict[str, Any]]], describe: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    """Return what *describe* returns for each object of *entries*, which are namespace, name and object, by the names.

    An object that is too large is unknown, and so are all of a namespace that is.
    """
    found: dict[str, dict[str, Any]] = {}
    sizes: dict[str, int] = {}
    for namespace, name, item in entries:
        value = attempt(describe, item)
        size = len(json.dumps(value))
        if size > OBJECT_BYTES:
            value, size = unknown_value(f"the object is larger than {OBJECT_BYTES >> 10} KiB"), 0
        elif sizes.get(namespace, 0) + size > NAMESPACE_BYTES:
            reason = f"the objects of namespace {namespace} are larger than {NAMESPACE_BYTES >> 20} MiB together"
            value, size = unknown_value(reason), 0
        found.setdefault(namespace, {})[name] = value
        sizes[namespace] = sizes.get(namespace, 0) + size
    while sum(sizes.values()) > WORKLOAD_BYTES:
        largest = max(sizes, key=lambda each: (sizes[each], each))
        reason = f"the objects of all namespaces are larger than {WORKLOAD_BYTES >> 20} MiB together"
        found[largest] = {name: unknown_value(reason) for name in found[largest]}
        sizes[largest] = 0
    return {name: value for each in found.values() for name, value in each.items()}


def workload(item: dict[str, Any]) -> dict[str, Any]:
    metadata, status = item["metadata"], item.get("status", {})
    if item["kind"] == "JobSet":
        status = {**status, "ready": ready_pods(item)}
    return {
        **content(item),
        "labels": metadata.get("labels", {}),
        "generation": metadata.get("generation", 0),
        "managers": managers(metadata.get("managedFields", [])),
        "status": {name: value for name, value in status.items() if isinstance(value, int)},
        "conditions": {
            each["type"]: each.get("message", "") for each in status.get("conditions", []) if each["status"] == "True"
        },
    }


def ready_pods(job_set: dict[str, Any]) -> int:
    """Return the number of pods of all jobs of which each pod is ready; the API counts jobs."""
    counts = {each["name"]: each["template"]["spec"]["completions"] for each in job_set["spec"]["replicatedJobs"]}
    states = job_set.get("status", {}).get("replicatedJobsStatus", [])
    return sum(counts[each["name"]] * each.get("ready", 0) for each in states)


def managers(fields: list[dict[str, Any]]) -> list[str]:
    """Return the programs that have set fields of an object, without its status and without Kubernetes itself."""
    return sorted({each["manager"] for each in fields if not each.get("subresource")} - CONTROLLERS)


def is_of_kubernetes(item: dict[str, Any]) -> bool:
    name, namespace = item["metadata"]["name"], item["metadata"].get("namespace", "")
    if item["kind"] == "PriorityClass":
        return str(name).startswith("system-")
    if item["kind"] in FLOWS:
        return AUTOMATIC in item["metadata"].get("annotations", {}) and name != "exempt"
    place = name if item["kind"] == "Namespace" else namespace
    return str(place) == "default" or str(place).startswith("kube-")


def namespace_of(item: dict[str, Any]) -> str:
    return str(item["metadata"].get("namespace", ""))


def content(item: dict[str, Any]) -> dict[str, Any]:
    """Return what an object says, without its name; of a namespace the labels that people set."""
    if item["kind"] == "Namespace":
        labels = item["metadata"].get("labels", {})
        return {"labels": {name: text for name, text in labels.items() if name != NAME_LABEL}}
    return {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata", "status")}


def query(*arguments: str) -> Any:
    """Return the answer of the API.

    Raises:
        ReadError: kubectl is not installed, fails, or prints something else.
    """
    return parse(API.ask("--output=json", *arguments))


def parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ReadError("kubectl prints no JSON") from None


def states(items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the properties of each node by its name."""
    return {item["metadata"]["name"]: bound_state(item) for item in items}


def bound_state(item: dict[str, Any]) -> Any:
    """Return the properties of a node. A node writes its own status: one that cannot be read is unknown alone."""
    found = attempt(state, item)
    if len(json.dumps(found)) > NODE_BYTES:
        return unknown_value(f"the node says more than {NODE_BYTES >> 10} KiB about itself")
    return found


def state(item: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a node that people set or need to know."""
    conditions = {each["type"]: each for each in item["status"].get("conditions", [])}
    ready = conditions.get("Ready", {})  # a node that has just registered has none
    return {
        "ready": ready.get("status") == "True",
        "reason": str(ready.get("message", ""))[:MESSAGE_LENGTH],
        "pressure": sorted(name for name in PRESSURE if conditions.get(name, {}).get("status") == "True"),
        "schedulable": not item["spec"].get("unschedulable", False),
        "version": item["status"]["nodeInfo"]["kubeletVersion"],
        "labels": dict(sorted(item["metadata"].get("labels", {}).items())),
        "fleet": item["metadata"].get("annotations", {}).get(MARK),
        "taints": sorted(map(taint, item["spec"].get("taints", []))),
    }


def taint(item: dict[str, str]) -> str:
    """Return a taint as kubectl writes it."""
    value = item.get("value", "")
    return f"{item['key']}{'=' * bool(value)}{value}:{item['effect']}"
