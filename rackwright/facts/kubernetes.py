"""The views of Kubernetes on a host: the cluster that its kubelet has joined, and on a control plane its nodes."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rackwright.facts.view import Fact, UnknownFact, View, mapping, optional, texts


def _labels(raw: Any) -> Mapping[str, str]:
    if not isinstance(raw, Mapping) or not all(isinstance(text, str) for item in raw.items() for text in item):
        raise TypeError("no labels")
    return raw


def _times(raw: Any) -> Mapping[str, float]:
    return {str(name): datetime.fromisoformat(text).timestamp() for name, text in raw.items()}


class JoinedCluster(View):
    """The cluster that a kubelet has joined."""

    server = Fact(str, "URL of the API, such as ``https://10.0.0.11:6443``.")
    authority = Fact(str, "SHA-256 of the certificate of its authority, as kubelet has it.")


class NodeFacts(View):
    """A node, as the API describes it."""

    ready = Fact(bool, "Whether the node reports that it can run pods.")
    reason = Fact(str, "Message about the condition Ready.")
    pressure = Fact(texts, "Conditions by which the node lacks something, such as ``DiskPressure``; sorted.")
    schedulable = Fact(bool, "Whether new pods may come; a cordon ends that.")
    version = Fact(str, "Version of its kubelet, such as ``v1.37.2``.")
    labels = Fact(_labels, "Labels by name.")
    fleet = Fact(optional, "Fleet that declared the node when it joined; None for a node that others let join.")
    taints = Fact(texts, "Taints as kubectl writes them, sorted.")


def _conditions(raw: Any) -> Mapping[str, str]:
    return {name: str(text) for name, text in mapping(raw).items()}


class WorkloadObject(View):
    """An object of a run or server, as the API describes it."""

    labels = Fact(_labels, "Labels by name.")
    conditions = Fact(_conditions, "Messages of the conditions that are true, by their types.")

    def count(self, name: str) -> int:
        """Return a number of the status, 0 if it is not there."""
        return self._state.value(name, int) if name in self._state._raw else 0

    @property
    def ready(self) -> int:
        """Number of ready pods."""
        return self.count("ready") + self.count("readyReplicas")

    @property
    def replicas(self) -> int:
        """Wanted number of pods of a deployment, or of groups of pods."""
        return View(self.read("spec"), f"{self._where}.spec").value("replicas", int)

    @property
    def is_suspended(self) -> bool:
        """Whether a job has no pods because it is to have none."""
        return bool(self.table("spec").get("suspend"))

    @property
    def is_observed(self) -> bool:
        """Whether the status is that of the present specification."""
        return self.count("observedGeneration") >= self.value("generation", int)

    @property
    def _state(self) -> View:
        return View(self.read("status"), f"{self._where}.status")


class ControllerObject(View):
    """An object of a controller, such as Kueue, as the API describes it."""

    content = Fact(str, "Digest of the object as it was set; empty for one that others have made.")
    managers = Fact(texts, "Programs that have set fields of it, sorted.")


class Waiting(View):
    """A job that is known to Kueue."""

    queue = Fact(str, "Name of its queue in its namespace.")
    active = Fact(bool, "Whether it may start; a stopped one may not.")
    admitted = Fact(bool, "Whether it has its quota, and runs.")
    finished = Fact(bool, "Whether it has ended.")
    priority = Fact(int, "Priority; a higher one starts earlier.")
    since = Fact(str, "Time at which it came to the queue, as an ISO text.")
    message = Fact(str, "Why it waits, as Kueue says.")


class ControllersFacts(View):
    """Controllers that a cluster has beside those of Kubernetes."""

    ready = Fact(bool, "Whether all of them are available.")

    def object(self, name: str) -> ControllerObject | None:
        """Return an object of them; None if the cluster has none of that name."""
        return self.entry("objects", name, ControllerObject)


class QueueFacts(ControllersFacts):
    """Kueue and JobSet in a cluster."""

    def job(self, name: str) -> Waiting | None:
        """Return a job by its name, such as ``vision/JobSet/digits``; None if Kueue does not know it."""
        return self.entry("jobs", name, Waiting)

    def place(self, name: str) -> int | None:
        """Return the place of a job in its queue, 1 for the next one; None if it does not wait."""
        own, namespace = self.job(name), name.partition("/")[0]
        if own is None:
            return None
        several = [(each, self.job(each)) for each in self.table("jobs") if each.startswith(f"{namespace}/")]
        waiting = sorted(
            (-each.priority, each.since, key)
            for key, each in several
            if each is not None and each.queue == own.queue and each.active and not (each.admitted or each.finished)
        )
        return next((number for number, (*_, key) in enumerate(waiting, start=1) if key == name), None)


class ClusterFacts(View):
    """A cluster, as its API describes it: on a control plane, or by its URL."""

    version = Fact(str, "Version of the API server, such as ``v1.37.2``.")
    join_tokens = Fact(texts, "Names of the secrets with tokens by which hosts join, sorted.")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all nodes, sorted."""
        return tuple(sorted(self.table("nodes")))

    @property
    def objects(self) -> Mapping[str, Any]:
        """The contents of the objects that give teams rights and limits, by name: ``vision/Role/viewer``.

        A kind that could not be listed has an unknown value under its name, such as ``Role``.
        """
        return self.table("objects")

    def object(self, name: str) -> Any:
        """Return the content of an object; None if there is none. Raises UnknownFact if its kind was not listed."""
        content = self.find("objects", name)
        if content is None:
            kind = name.split("/")[-2]
            self.find("objects", kind)  # a kind that was not listed has its reason under its own name
            if kind.startswith("ValidatingAdmission") and not self.has("admission"):
                raise UnknownFact(f"{self._where}.objects: an earlier probe took these facts, and did not list {kind}")
            # each API server has one of that name, and a probe that lists the kind reports it
            if kind in ("FlowSchema", "PriorityLevelConfiguration") and not self.find("objects", f"{kind}/exempt"):
                raise UnknownFact(f"{self._where}.objects: an earlier probe took these facts, and did not list {kind}")
        return content

    def require_all_objects(self) -> None:
        """Return if each kind of objects was listed, or raise UnknownFact."""
        for name in self.objects:
            if "/" not in name:
                self.find("objects", name)

    def addon_version(self, name: str) -> str | None:
        """Return the version of an addon of kubeadm, such as kube-proxy; None if the cluster has none of that name."""
        return optional(self.find("addons", name))

    @property
    def admission_plugins(self) -> tuple[str, ...] | None:
        """The admission plugins that all API servers enable by their options, sorted; None without an API server."""
        each = [set(self.find("admission", node, texts) or ()) for node in self.table("admission")]
        return tuple(sorted(set.intersection(*each))) if each else None

    def ready_on(self, component: str) -> tuple[str, ...]:
        """Return the nodes on which a component of the control plane, such as etcd, is ready; sorted."""
        return tuple(sorted(self.find("components", component, texts) or ()))

    @property
    def queue(self) -> QueueFacts | None:
        """Kueue and JobSet; None in a cluster without them."""
        raw = self.read("queue")
        return None if raw is None else QueueFacts(raw, f"{self._where}.queue")

    def controllers(self, name: str) -> ControllersFacts | None:
        """Return the controllers `queue` (Kueue and JobSet), `groups` (LeaderWorkerSet) or `metrics` (Metrics Server).

        None in a cluster without them.
        """
        raw = self.read(name)
        return None if raw is None else ControllersFacts(raw, f"{self._where}.{name}")

    @property
    def workload_objects(self) -> Mapping[str, Any]:
        """The objects of runs and servers, by name: ``vision/Job/digits-launcher``."""
        return self.table("workloads")

    def workload(self, name: str) -> WorkloadObject | None:
        """Return an object of a run or server; None if the cluster has none of that name."""
        return self.entry("workloads", name, WorkloadObject)

    def workloads_of(self, team: str) -> Iterator[WorkloadObject]:
        """Yield the objects of runs and servers in the namespace of *team*, and the volumes of claims there."""
        for name in self.workload_objects:
            if not name.startswith((f"{team}/", "PersistentVolume/")):
                continue  # one that cannot be read concerns its own team alone
            each = self.workload(name)
            if each is None:
                continue
            if name.startswith("PersistentVolume/"):
                claim = View(each.table("spec").get("claimRef", {}), f"{self._where}.workloads.{name}.spec.claimRef")
                if claim.value("namespace", str) == team:
                    yield each
            else:
                yield each

    def workloads(self, prefix: str) -> Iterator[WorkloadObject]:
        """Yield the objects of runs and servers whose names begin with *prefix*."""
        for name in self.workload_objects:
            if name.startswith(prefix) and (each := self.workload(name)) is not None:
                yield each

    def node(self, name: str) -> NodeFacts | None:
        """Return a node; None if the cluster has none of that name."""
        return self.entry("nodes", name, NodeFacts)


class HostKubernetes(View):
    """Kubernetes on a host."""

    @property
    def joined_cluster(self) -> JoinedCluster | None:
        """The cluster that the kubelet has joined; None if it joined none."""
        raw = self.read("kubernetes_node")
        return None if raw is None else JoinedCluster(raw, "kubernetes_node")

    @property
    def cluster(self) -> ClusterFacts | None:
        """The cluster whose control plane the host is, or whose API was read by its URL; None on other hosts."""
        raw = self.read("kubernetes_cluster")
        return None if raw is None else ClusterFacts(raw, "kubernetes_cluster")

    @property
    def kubernetes_certificates(self) -> Mapping[str, float] | None:
        """The ends of validity in seconds since 1970, by kubeadm's name of the certificate; None on other hosts."""
        if self.read("kubernetes_certificates") is None:
            return None
        return self.value("kubernetes_certificates", _times)
