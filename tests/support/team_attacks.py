"""What an operator of a team may try with each field of an object, and which part of the cluster refuses it."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rackwright.kinds.cluster.quantity import Object

TEAM, OTHER = "vision", "speech"
OPERATOR = ("--as=mallory", f"--as-group={TEAM}-operators", "--as-group=system:authenticated")
CONTROLLER = (
    "--as=system:serviceaccount:kube-system:replicaset-controller",
    *("--as-group=system:serviceaccounts", "--as-group=system:serviceaccounts:kube-system"),
    "--as-group=system:authenticated",
)
"""The account of a controller, which makes the pods of each template that the API has let in."""
OURS, OUTPUT = "run-digits-system-280e050c", "run-digits-out-1f52a4fd"
"""Claims of a run of rackwright."""
POLICY, SECURITY, QUOTA, PLUGIN = "ValidatingAdmissionPolicy", "violates PodSecurity", "exceeded quota", "externalIPs"


@dataclass(frozen=True, slots=True)
class Attack:
    """An object that the API has to refuse."""

    field: str
    """The field that it misuses, as `tests/support/team_fields.yaml` writes it."""
    item: Object
    refused_by: str
    """A part of the refusal."""
    account: tuple[str, ...] = OPERATOR
    is_large: bool = False
    """Whether its size alone is refused, whatever field has the bytes."""

    @property
    def name(self) -> str:
        return f"{self.item['kind']} {self.field}"


def pod(change: Callable[[Object], Any] = lambda spec: None) -> Object:
    """Return a pod that a team may have, after *change* of its specification."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": TEAM}, "spec": _spec(change)}


def _spec(change: Callable[[Object], Any]) -> Object:
    spec: Object = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "x",
                "image": "registry.example/x:1",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"cpu": "10m", "memory": "8Mi"}},
            }
        ],
    }
    change(spec)
    return spec


def service(**spec: Any) -> Object:
    ports = [{"port": 6443, "protocol": "TCP"}]
    metadata = {"name": "x", "namespace": TEAM}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports, **spec}}


def templates(change: Callable[[Object], Any] = lambda spec: None) -> Iterator[Object]:
    """Yield an object of each kind that makes pods, with the pods of *change*."""
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": _spec(change)}
    metadata = {"name": "x", "namespace": TEAM}
    selector = {"matchLabels": labels}
    job = copy.deepcopy(template)
    job["spec"]["restartPolicy"] = "Never"
    for kind in ("Deployment", "ReplicaSet", "StatefulSet"):
        more = {"serviceName": "x"} if kind == "StatefulSet" else {}
        spec = {"replicas": 1, "selector": selector, "template": copy.deepcopy(template), **more}
        yield {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}
    yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": job}}
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": job}}}
    yield {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec}


def claim(
    name: str = OURS, *, volume: bool = True, mount: bool = True, account: int = 70000
) -> Callable[[Object], Any]:
    """Return the change that mounts a claim of rackwright as its own pods do, or without `readOnly` at a place."""

    def change(spec: Object) -> None:
        source = {"claimName": name, **({"readOnly": True} if volume else {})}
        spec["volumes"] = [{"name": "v", "persistentVolumeClaim": source}]
        mounted = {"name": "v", "mountPath": "/usr", **({"readOnly": True} if mount else {})}
        spec["containers"][0]["volumeMounts"] = [mounted]
        spec["securityContext"].update(runAsUser=account, runAsGroup=account)

    return change


def _and(*changes: Callable[[Object], Any]) -> Callable[[Object], Any]:
    def change(spec: Object) -> None:
        for each in changes:
            each(spec)

    return change


def _set(**fields: Any) -> Callable[[Object], Any]:
    return lambda spec: spec.update(fields)


def _secure(**fields: Any) -> Callable[[Object], Any]:
    return lambda spec: spec["securityContext"].update(fields)


def _container(**fields: Any) -> Callable[[Object], Any]:
    return lambda spec: spec["containers"][0].update(fields)


def _container_secure(**fields: Any) -> Callable[[Object], Any]:
    return lambda spec: spec["containers"][0]["securityContext"].update(fields)


def _init_writes(spec: Object) -> None:
    container = copy.deepcopy(spec["containers"][0])
    container["name"] = "first"
    container["volumeMounts"] = [{"name": "v", "mountPath": "/usr"}]
    spec["initContainers"] = [container]


def _toleration(**fields: Any) -> Callable[[Object], Any]:
    return _set(tolerations=[fields])


def _affinity(sort: str, weighted: bool, **more: Any) -> Callable[[Object], Any]:
    term = {"labelSelector": {}, "topologyKey": "kubernetes.io/os", **more}
    key = "preferred" if weighted else "required"
    terms = [{"weight": 1, "podAffinityTerm": term}] if weighted else [term]
    return _set(affinity={sort: {f"{key}DuringSchedulingIgnoredDuringExecution": terms}})


_HTTP = {"httpGet": {"host": "127.0.0.1", "port": 10248}}
_TCP = {"tcpSocket": {"host": "127.0.0.1", "port": 22}}
_WINDOWS = {"hostProcess": True}
_SYSCTL = {"name": "kernel.msgmax", "value": "1"}
_PLANE = "node-role.kubernetes.io/control-plane"
_CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
_CLAIMS: list[tuple[str, Callable[[Object], Any]]] = [
    ("core.v1.PodSecurityContext.fsGroup", _and(claim(), _secure(fsGroup=4242))),
    ("core.v1.PodSecurityContext.fsGroup", _and(claim(OUTPUT, volume=False, mount=False), _secure(fsGroup=4242))),
    ("core.v1.PodSecurityContext.supplementalGroups", _and(claim(), _secure(supplementalGroups=[50]))),
    ("core.v1.PodSecurityContext.runAsUser", claim(account=1000)),
    ("core.v1.PodSecurityContext.runAsGroup", _and(claim(), _secure(runAsGroup=50))),
    ("core.v1.SecurityContext.runAsUser", _and(claim(), _container_secure(runAsUser=1000))),
    ("core.v1.SecurityContext.runAsGroup", _and(claim(), _container_secure(runAsGroup=50))),
    ("core.v1.PodSpec.hostUsers", _and(claim(), _set(hostUsers=False))),
    ("core.v1.PersistentVolumeClaimVolumeSource.readOnly", claim(volume=False)),
    ("core.v1.VolumeMount.readOnly", claim(mount=False)),
    ("core.v1.PodSpec.initContainers", _and(claim(), _init_writes)),
]
"""Changes by which pods of controllers would write to paths of the host."""
_ALL: list[tuple[str, Callable[[Object], Any]]] = [
    ("core.v1.PersistentVolumeClaimVolumeSource.claimName", claim()),
    ("core.v1.PersistentVolumeClaimVolumeSource.claimName", claim(OUTPUT, volume=False, mount=False)),
    ("core.v1.PodSpec.nodeName", _set(nodeName="cp-01")),
    ("core.v1.PodSpec.tolerations", _toleration(operator="Exists")),
    ("core.v1.PodSpec.tolerations", _toleration(operator="Exists", effect="NoSchedule")),
    ("core.v1.Toleration.key", _toleration(key=_PLANE, operator="Exists", effect="NoSchedule")),
    ("core.v1.Toleration.key", _toleration(key=_PLANE, effect="NoSchedule")),
    ("core.v1.Toleration.key", _toleration(key="node-role.kubernetes.io/master", operator="Exists")),
    ("core.v1.Toleration.key", _toleration(key="node.kubernetes.io/unschedulable", operator="Exists")),
    ("core.v1.Toleration.key", _toleration(key="node.kubernetes.io/disk-pressure", operator="Exists")),
    ("core.v1.Toleration.operator", _toleration(key="reserved", operator="Exists")),
    ("core.v1.Toleration.value", _toleration(key="reserved", value=OTHER)),
    ("core.v1.PodSpec.priorityClassName", _set(priorityClassName="system-node-critical")),
    ("core.v1.PodSpec.priorityClassName", _set(priorityClassName="system-cluster-critical")),
    ("core.v1.PodSpec.priorityClassName", _set(priorityClassName="serving")),
    *(
        (f"core.v1.PodAffinityTerm.{key}", _affinity(sort, weighted, **{key: value}))
        for sort in ("podAffinity", "podAntiAffinity")
        for weighted in (False, True)
        for key, value in (("namespaceSelector", {}), ("namespaces", [OTHER]), ("namespaces", [TEAM, "kube-system"]))
    ),
    ("core.v1.PodSpec.terminationGracePeriodSeconds", _set(terminationGracePeriodSeconds=10**9)),
    ("core.v1.Volume.ephemeral", _set(volumes=[{"name": "280e050c", "ephemeral": {"volumeClaimTemplate": _CLAIM}}])),
]
"""Changes that the policies refuse in pods and in all templates."""
_VOLUMES: dict[str, Any] = {
    "hostPath": {"path": "/"},
    "nfs": {"server": "192.0.2.1", "path": "/"},
    "iscsi": {"targetPortal": "192.0.2.1", "iqn": "iqn.2001-04.com.example:x", "lun": 0},
    "rbd": {"monitors": ["192.0.2.1"], "image": "x"},
    "cephfs": {"monitors": ["192.0.2.1"]},
    "fc": {"wwids": ["1"]},
    "flexVolume": {"driver": "x/y"},
    "gitRepo": {"repository": "https://example.com/x"},
    "glusterfs": {"endpoints": "x", "path": "x"},
    "awsElasticBlockStore": {"volumeID": "x"},
    "azureDisk": {"diskName": "x", "diskURI": "https://x/y.vhd"},
    "azureFile": {"secretName": "x", "shareName": "x"},
    "cinder": {"volumeID": "x"},
    "flocker": {"datasetName": "x"},
    "gcePersistentDisk": {"pdName": "x"},
    "photonPersistentDisk": {"pdID": "x"},
    "portworxVolume": {"volumeID": "x"},
    "quobyte": {"registry": "x:1", "volume": "x"},
    "scaleIO": {"gateway": "https://x", "system": "x", "volumeName": "x", "secretRef": {"name": "x"}},
    "storageos": {"volumeName": "x"},
    "vsphereVolume": {"volumePath": "x"},
}
_STANDARD: list[tuple[str, Callable[[Object], Any]]] = [
    ("core.v1.PodSpec.hostNetwork", _set(hostNetwork=True)),
    ("core.v1.PodSpec.hostPID", _set(hostPID=True)),
    ("core.v1.PodSpec.hostIPC", _set(hostIPC=True)),
    ("core.v1.ContainerPort.hostPort", _container(ports=[{"containerPort": 80, "hostPort": 80}])),
    ("core.v1.ContainerPort.hostIP", _container(ports=[{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}])),
    ("core.v1.SecurityContext.privileged", _container_secure(privileged=True, allowPrivilegeEscalation=True)),
    ("core.v1.SecurityContext.allowPrivilegeEscalation", _container_secure(allowPrivilegeEscalation=True)),
    ("core.v1.Capabilities.add", _container_secure(capabilities={"add": ["SYS_ADMIN"], "drop": ["ALL"]})),
    ("core.v1.Capabilities.drop", _container_secure(capabilities={})),
    ("core.v1.SecurityContext.capabilities", _container_secure(capabilities={"add": ["NET_RAW"], "drop": ["ALL"]})),
    ("core.v1.SecurityContext.procMount", _and(_container_secure(procMount="Unmasked"), _set(hostUsers=False))),
    ("core.v1.SecurityContext.runAsNonRoot", _container_secure(runAsNonRoot=False)),
    ("core.v1.PodSecurityContext.runAsNonRoot", _secure(runAsNonRoot=False)),
    ("core.v1.PodSecurityContext.runAsUser", _secure(runAsUser=0)),
    ("core.v1.SecurityContext.runAsUser", _container_secure(runAsUser=0)),
    ("core.v1.PodSecurityContext.seccompProfile", _secure(seccompProfile={"type": "Unconfined"})),
    ("core.v1.SecurityContext.seccompProfile", _container_secure(seccompProfile={"type": "Unconfined"})),
    ("core.v1.PodSecurityContext.appArmorProfile", _secure(appArmorProfile={"type": "Unconfined"})),
    ("core.v1.SecurityContext.appArmorProfile", _container_secure(appArmorProfile={"type": "Unconfined"})),
    ("core.v1.PodSecurityContext.seLinuxOptions", _secure(seLinuxOptions={"type": "spc_t"})),
    ("core.v1.SecurityContext.seLinuxOptions", _container_secure(seLinuxOptions={"user": "root"})),
    ("core.v1.PodSecurityContext.sysctls", _secure(sysctls=[_SYSCTL])),
    ("core.v1.PodSecurityContext.windowsOptions", _and(_set(hostNetwork=True), _secure(windowsOptions=_WINDOWS))),
    (
        "core.v1.SecurityContext.windowsOptions",
        _and(_set(hostNetwork=True), _container_secure(windowsOptions=_WINDOWS)),
    ),
    (
        "core.v1.WindowsSecurityContextOptions.hostProcess",
        _and(_set(hostNetwork=True), _secure(windowsOptions=_WINDOWS)),
    ),
    ("core.v1.AppArmorProfile.type", _secure(appArmorProfile={"type": "Unconfined"})),
    ("core.v1.SeccompProfile.type", _container_secure(seccompProfile={"type": "Unconfined"})),
    ("core.v1.SELinuxOptions.type", _container_secure(seLinuxOptions={"type": "spc_t"})),
    ("core.v1.SELinuxOptions.user", _secure(seLinuxOptions={"user": "root"})),
    ("core.v1.SELinuxOptions.role", _secure(seLinuxOptions={"role": "sysadm_r"})),
    ("core.v1.Sysctl.name", _secure(sysctls=[{"name": "kernel.shm_rmid_forced", "value": "1"}, _SYSCTL])),
    ("core.v1.Sysctl.value", _secure(sysctls=[{"name": "net.core.somaxconn", "value": "9"}])),
    ("core.v1.HTTPGetAction.host", _container(livenessProbe=_HTTP)),
    ("core.v1.HTTPGetAction.host", _container(lifecycle={"postStart": _HTTP})),
    ("core.v1.TCPSocketAction.host", _container(readinessProbe=_TCP)),
    *((f"core.v1.Volume.{key}", _set(volumes=[{"name": "v", key: value}])) for key, value in _VOLUMES.items()),
]
"""Changes that the Pod Security Standard `restricted` refuses."""


_MANAGER = {
    "operation": "Apply",
    "time": "2026-01-01T00:00:00Z",
    "fieldsType": "FieldsV1",
    "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}},
}
_LARGE: list[tuple[str, Callable[[Object], Any]]] = [
    ("core.v1.Container.env", _container(env=[{"name": f"A{number}", "value": "0" * 100} for number in range(300)])),
    ("core.v1.Container.env", _container(env=[{"name": "A", "value": "0" * 33_000}])),
    ("core.v1.Container.env", _container(env=[{"name": "A", "value": "<" * 5600}])),
    ("core.v1.Container.args", _container(args=["0" * 33_000])),
    ("core.v1.Container.args", _container(args=["&\x01" * 3000])),
    ("core.v1.Container.command", _container(command=["0"] * 20_000)),
    ("core.v1.PodSpec.hostAliases", _set(hostAliases=[{"ip": "192.0.2.1", "hostnames": ["a" * 60] * 600}])),
    ("core.v1.PodSpec.nodeSelector", _set(nodeSelector={f"a{number}": "0" * 60 for number in range(600)})),
]
"""Changes of pods that make them large."""
_UNLIMITED = ("nvidia.com/mig-1g.10gb", "amd.com/gpu_cpx", "rdma/hca", "example.com/any", "hugepages-2Mi")
"""Resources that no quota of a team limits."""


def _large() -> Iterator[Attack]:
    """Yield objects that are larger than an object of a team may be, each by another field."""
    config = {"apiVersion": "v1", "kind": "ConfigMap"}
    place = {"name": "x", "namespace": TEAM}
    for key, value in {"data": "0" * 33_000, "binaryData": "QUJD" * 8200}.items():
        yield Attack(
            f"core.v1.ConfigMap.{key}", {**config, "metadata": place, key: {"a": value}}, POLICY, is_large=True
        )
    many = {f"k{number}": "" for number in range(6000)}
    yield Attack("core.v1.ConfigMap.data", {**config, "metadata": place, "data": many}, POLICY, is_large=True)
    # four bytes each, and six each in JSON, which etcd and controllers have of some kinds
    for text in ("\U0001f600" * 8200, *(each * 5600 for each in "<>&\x01\u2028\u2029\ufffd")):
        large = {**config, "metadata": place, "data": {"a": text}}
        yield Attack("core.v1.ConfigMap.data", large, POLICY, is_large=True)
    several = (config, pod(), service(), *templates())
    for item in several:
        managers = [
            {**_MANAGER, "apiVersion": item["apiVersion"], "manager": f"{number:0>100}"} for number in range(200)
        ]
        for field, value in {
            "annotations": {"a": "<" * 5600},
            "labels": {f"a{number}": "0" * 60 for number in range(600)},
            "finalizers": [f"example.com/{number:0>60}" for number in range(600)],
            "managedFields": managers,
        }.items():
            metadata = {**place, field: value}
            yield Attack(f"meta.v1.ObjectMeta.{field}", {**item, "metadata": metadata}, POLICY, is_large=True)
    for field, change in _LARGE:
        for item in (pod(change), *templates(change)):
            yield Attack(field, item, POLICY, is_large=True)


def _unlimited() -> Iterator[Attack]:
    """Yield pods that ask for resources which the quota of their team does not name."""
    for name in _UNLIMITED:
        asked = {"cpu": "10m", "memory": "8Mi", name: "2Mi" if "pages" in name else "1"}
        change = _container(resources={"requests": asked, "limits": asked})
        for item in (pod(change), *templates(change)):
            yield Attack("core.v1.ResourceRequirements.limits", item, POLICY)
    first = {"name": "first", **_spec(lambda spec: None)["containers"][0]}
    first = {**first, "name": "first", "resources": {"limits": {"example.com/any": "1"}}}
    yield Attack("core.v1.ResourceRequirements.limits", pod(_set(initContainers=[first])), POLICY)
    whole = {"limits": {"cpu": "1", "memory": "8Mi", "hugepages-2Mi": "2Mi"}}
    yield Attack("core.v1.PodSpec.resources", pod(_set(resources=whole)), POLICY)
    # beyond the quota of 20 GiB for each of 100 pods
    asked = {"cpu": "10m", "memory": "8Mi", "ephemeral-storage": "3000Gi"}
    item = pod(_container(resources={"requests": asked, "limits": asked}))
    yield Attack("core.v1.ResourceRequirements.limits", item, QUOTA)


def attacks() -> Iterator[Attack]:
    """Yield an object for each field that can be misused, and for each kind of object that has it."""
    for field, change in _CLAIMS:
        yield Attack(field, pod(change), POLICY, CONTROLLER)
    for field, change in (*_CLAIMS, *_ALL):
        # the API itself refuses some of these values at other places
        yield Attack(field, pod(change), "rbidden")
        for item in templates(change):
            yield Attack(field, item, POLICY)
    for field, change in _STANDARD:
        yield Attack(field, pod(change), SECURITY)
    for field, spec in {
        "core.v1.ServiceSpec.externalIPs": {"externalIPs": ["10.41.0.11"]},
        "core.v1.ServiceSpec.type": {"type": "NodePort"},
        "core.v1.ServicePort.nodePort": {
            "type": "NodePort",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
        },
        "core.v1.ServiceSpec.loadBalancerIP": {"type": "LoadBalancer", "loadBalancerIP": "10.41.0.11"},
        "core.v1.ServiceSpec.loadBalancerClass": {"type": "LoadBalancer", "loadBalancerClass": "x/y"},
        "core.v1.ServiceSpec.loadBalancerSourceRanges": {
            "type": "LoadBalancer",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
        },
        "core.v1.ServiceSpec.externalTrafficPolicy": {"type": "NodePort", "externalTrafficPolicy": "Local"},
        "core.v1.ServiceSpec.healthCheckNodePort": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30081,
        },
        "core.v1.ServiceSpec.allocateLoadBalancerNodePorts": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": False,
        },
    }.items():
        yield Attack(field, service(**spec), "rbidden")
    for item in templates():
        if item["kind"] == "StatefulSet":
            item["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "run"}, **_CLAIM}]
            yield Attack("apps.v1.StatefulSetSpec.volumeClaimTemplates", item, POLICY)
    metadata = {"name": "run-x-out-0123abcd", "namespace": TEAM}
    item = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, **_CLAIM}
    yield Attack("meta.v1.ObjectMeta.name", item, POLICY)
    for gpu in ("nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi"):
        limits = {"cpu": "10m", "memory": "8Mi", gpu: "5"}
        item = pod(_container(resources={"requests": limits, "limits": limits}))
        yield Attack("core.v1.ResourceRequirements.limits", item, QUOTA)
    yield from _large()
    yield from _unlimited()


def job_sets() -> Iterator[Attack]:
    """Yield hostile job sets, for an API that has their definition."""
    for is_large, changes in ((False, (*_CLAIMS, *_ALL)), (True, _LARGE)):
        for field, change in changes:
            yield Attack(field, job_set(change), POLICY, is_large=is_large)
    asked = {"cpu": "10m", "memory": "8Mi", "example.com/any": "1"}
    change = _container(resources={"requests": asked, "limits": asked})
    yield Attack("core.v1.ResourceRequirements.limits", job_set(change), POLICY)
    item = job_set()
    item["spec"]["volumeClaimPolicies"] = [{"templates": [{"metadata": {"name": "run"}, **_CLAIM}]}]
    yield Attack("jobset.JobSetSpec.volumeClaimPolicies", item, POLICY)
    item = job_set()
    item["spec"]["failurePolicy"] = {"rules": [{"name": "x", "action": "FailJobSet"}]}
    item["spec"]["failurePolicy"]["rules"][0]["onJobFailureMessagePatterns"] = ["0" * 33_000]
    yield Attack("jobset.JobSetSpec.failurePolicy.rules.onJobFailureMessagePatterns", item, POLICY, is_large=True)


def job_set(change: Callable[[Object], Any] = lambda spec: None) -> Object:
    """Return a job set of a team, with two sets of jobs, the second of which has the pods of *change*."""
    jobs = []
    for name, each in (("first", lambda spec: None), ("second", change)):
        [job] = [item for item in templates(each) if item["kind"] == "Job"]
        jobs.append({"name": name, "replicas": 1, "template": {"spec": job["spec"]}})
    place = {"name": "x", "namespace": TEAM}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": place,
        "spec": {"replicatedJobs": jobs},
    }


def permitted() -> Iterator[Object]:
    """Yield objects of an operator that must stay possible."""
    yield pod()
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": TEAM}}
    yield {**config, "data": {"a": "0" * 32_000}}
    yield {**config, "data": {"page.html": '<p class="a">some text of a page, in a line &amp; more</p>\n' * 200}}
    asked = {"cpu": "10m", "memory": "8Mi", "ephemeral-storage": "1Gi", "nvidia.com/gpu": "1"}
    yield pod(_container(resources={"requests": asked, "limits": asked}))
    yield from templates(_container(resources={"requests": asked, "limits": asked}))
    for change in (
        _set(priorityClassName="training"),
        _toleration(key="reserved", value=TEAM),
        _toleration(key="reserved", value="anything", effect="NoExecute"),
        _toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),
        _toleration(key="node.kubernetes.io/not-ready", operator="Exists", effect="NoExecute", tolerationSeconds=30),
        _affinity("podAntiAffinity", False),
        _affinity("podAntiAffinity", True, namespaces=[TEAM]),
        _affinity("podAffinity", True),
        _set(nodeSelector={"kubernetes.io/hostname": "node-01"}),
        _secure(fsGroup=2000, supplementalGroups=[2000]),
        _and(_set(volumes=[{"name": "v", "emptyDir": {}}]), _secure(fsGroup=2000)),
        _set(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "own"}}]),
        _set(volumes=[{"name": "v", "configMap": {"name": "x"}}]),
        _set(terminationGracePeriodSeconds=3600),
        _set(hostAliases=[{"ip": "192.0.2.1", "hostnames": ["x"]}]),
    ):
        yield pod(change)
        yield from templates(change)
    yield service()
    yield service(clusterIP="None")
    yield service(type="ExternalName", externalName="example.com", ports=[])
