"""Line 4, GPUs: pods that get the GPUs that they ask for, and a GPU that is lost in a running pod."""

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rackwright.kinds.pods import image
from rackwright.twin.gpu import state
from tests.support.acceptance import line
from tests.support.driver_install import VERSION, libraries_script
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log

PLANE, NODE, TEAM = "plane", "oak", "vision"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
RESOURCE, COUNT, QUOTA = "nvidia.com/gpu", 2, 4
"""Resource of a GPU, number of GPUs of the node, and the limit of the team."""
FLEET = f"""\
fleet: orchard
mirror: {{}}
groups:
  kubernetes:
    os: debian-12
    network: {{}}
    roles:
      base: {{security_updates: false}}
      container_runtime: {{engine: containerd, version: 2.4.2, pause_image: "registry.k8s.io/pause:3.10.2"}}
hosts:
  {PLANE}:
    group: kubernetes
    address: 192.0.2.171
    identity: {{serial: ORCHARD-1}}
    nics: [{{name: fabric0, mac: "52:54:00:00:48:01", addresses: [10.48.0.11/24]}}]
    roles:
      kubernetes_node: {{address: 10.48.0.11, pod_network: 10.248.1.0/24}}
      kubernetes_control_plane:
        address: 10.48.0.11
        pod_network: 10.248.0.0/16
        encryption_key: {{secret: cluster_encryption}}
  {NODE}:
    group: kubernetes
    profile: training-a40
    address: 192.0.2.172
    identity: {{serial: ORCHARD-2}}
    nics: [{{name: fabric0, mac: "52:54:00:00:48:02", addresses: [10.48.0.12/24]}}]
    tiers: {{warm: {{provided: true, mount: /srv/warm}}}}
    roles:
      kubernetes_node: {{address: 10.48.0.12, pod_network: 10.248.2.0/24}}
      device_plugin: {{}}
clusters:
  main:
    control_plane: {PLANE}
    nodes: {{{NODE}: {{}}}}
    teams:
      {TEAM}: {{cpus: 8, memory: 16GiB, gpus: {QUOTA}}}
"""
RUN, STEPS = "digits", 40
RUNS = f"""\
fleet: trainings
uses: fleet.yaml
runs:
  {RUN}:
    recipe: digits
    hosts: [{NODE}]
    on: kubernetes
    pods: {{team: {TEAM}, memory: 2GiB, gpus: 1}}
    checkpoints: {{tier: warm}}
    set: {{steps: {STEPS}, saving: {{every_steps: 20}}}}
"""
SYSTEM = f"""\
apiVersion: v1
kind: PersistentVolume
metadata: {{name: system}}
spec:
  accessModes: [ReadOnlyMany]
  capacity: {{storage: 1Gi}}
  local: {{path: /usr}}
  claimRef: {{namespace: {TEAM}, name: system}}
  nodeAffinity:
    required:
      nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{NODE}]}}]}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: system, namespace: {TEAM}}}
spec:
  accessModes: [ReadOnlyMany]
  storageClassName: ""
  volumeName: system
  resources: {{requests: {{storage: 1Gi}}}}
"""
"""The programs of the node, as pods of runs have them: read-only, by a volume."""
POD = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: NAME, namespace: {TEAM}}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: python
    image: {image.name()}
    imagePullPolicy: Never
    command: [/usr/bin/python3, -c, "import time; time.sleep(10 ** 6)"]
    resources: {{limits: {{LIMITS}}}}
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    volumeMounts: [{{name: system, mountPath: /usr, readOnly: true}}]
  volumes: [{{name: system, persistentVolumeClaim: {{claimName: system}}}}]
"""
SEEN = """\
import ctypes, glob, json
nodes = sorted(each.removeprefix("/dev/") for each in glob.glob("/dev/nvidia[0-9]*"))
uuids = []
try:
    library = ctypes.CDLL("libnvidia-ml.so.1")
except OSError:
    library = None
if library and not library.nvmlInit_v2():
    count, gpu, text = ctypes.c_uint(), ctypes.c_void_p(), ctypes.create_string_buffer(96)
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        if not library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(gpu)):
            library.nvmlDeviceGetUUID(gpu, text, 96)
            uuids.append(text.value.decode())
print(json.dumps({"nodes": nodes, "uuids": uuids}))
"""
"""Program in a pod: the device nodes of GPUs, and the GPUs that NVIDIA's library shows."""
OPEN = """\
import errno, os, sys
with open(sys.argv[1], "w") as group:
    group.write(str(os.getpid()))
for path in sys.argv[2:]:
    try:
        os.close(os.open(path, os.O_RDWR))
        print("opened")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
"""Program that enters a control group as root with all rights, and opens device nodes of the host."""


@line("kubernetes", 4, part="gpus")
def test_a_pod_sees_each_gpu_that_it_asks_for_and_no_other(log: Log) -> str:
    """Capacity of the node, GPUs in pods with and without a request, a pod too large, the quota, and a lost GPU."""
    with gpu_lab(log) as lab:
        need(not lab.differing(), "something differs after `up`")
        log("GPUs of the node")
        eventually(lambda: _gpus(lab) == (COUNT, COUNT), f"the node offers {COUNT} GPUs")
        uuids = [state.uuid(NODE, index) for index in range(COUNT)]
        log("a pod with a GPU, and one without")
        _import_image(lab)
        _apply(lab, SYSTEM)
        _apply(lab, _pod("one", 1))
        _apply(lab, _pod("none", 0))
        _need_running(lab, "one", "none")
        one = _seen(lab, "one")
        need(len(one["nodes"]) == 1, f"the pod that asks for one GPU has {one['nodes']}")
        held = int(one["nodes"][0].removeprefix("nvidia"))
        need(one["uuids"] == [uuids[held]], f"the pod with {one['nodes'][0]} sees {one['uuids']}, of {uuids}")
        need(_seen(lab, "none") == {"nodes": [], "uuids": []}, "a pod without a request sees a GPU")
        _need_refused_nodes(lab, held)
        log("more than the node has, and more than the team may have")
        _apply(lab, _pod("large", COUNT + 1))
        _need_waiting(lab, "large")
        refused = lab.ssh(PLANE, f"{KUBECTL} apply --filename - 2>&1 << 'END' || true\n{_pod('more', 1)}\nEND")
        need("exceeded quota" in refused and f"requests.{RESOURCE}" in refused, f"not refused: {refused}")
        _delete(lab, "large")
        log("the GPU of the running pod is lost")
        lab.rackwright("twin", "fault", lab.stack, "gpu-lost", NODE, str(held), status=0)
        eventually(lambda: _gpus(lab) == (COUNT, COUNT - 1), "the node offers one GPU less")
        found = lab.differing()
        need(found == {(f"{NODE}/device_plugin", "gpu:condition")}, f"found: {format_claims(found)}")
        _apply(lab, _pod("next", 1))
        _need_waiting(lab, "next")
        need(_phase(lab, "one") == "Running", "the pod with the lost GPU does not run on")
        need(_seen(lab, "one")["uuids"] == [], "the lost GPU answers in its pod")
        log("the pod ends, and another GPU is free for the next one")
        _delete(lab, "one")
        _need_running(lab, "next")
        after = _seen(lab, "next")["uuids"]
        need(after == [uuids[1 - held]], f"the next pod sees {after}, of {uuids}")
        log("the GPU works again")
        lab.rackwright("twin", "fault", lab.stack, "gpu-clear", NODE, str(held), status=0)
        eventually(lambda: _gpus(lab) == (COUNT, COUNT), f"the node offers {COUNT} GPUs again")
        need(not lab.differing(), "something differs after the GPU works again")
        log("a training in a pod with a GPU")
        _need_trained(lab)
    return (
        f"{COUNT} GPUs of the node; 1 asked for, 1 seen, the other refused by the kernel; without a request none; "
        f"a pod too large waited, one beyond the quota of {QUOTA} was refused; a lost GPU got no new pod; "
        f"a training of {STEPS} steps in a pod with a GPU"
    )


@contextmanager
def gpu_lab(log: Log) -> Iterator[Lab]:
    """Yield a lab with a cluster whose node has the GPUs of its profile, and the libraries of a driver."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    directory, hosts = log.empty_directory() / "project", [PLANE, NODE]
    with Lab(directory, FLEET, log, "orchard", containers=hosts, workloads=True) as lab:
        log("building Kubernetes, or finding it built")
        lab.rackwright("toolchain", "kubernetes", status=0)
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        lab.start()
        lab.ssh(NODE, libraries_script(lab.directory, VERSION))
        log("making the cluster")
        lab.up()
        yield lab


def _gpus(lab: Lab) -> tuple[int, int]:
    """Return how many GPUs the node has, and how many of them pods may get."""
    node = json.loads(lab.ssh(PLANE, f"{KUBECTL} get node {NODE} --output json"))["status"]
    return int(node["capacity"].get(RESOURCE, 0)), int(node["allocatable"].get(RESOURCE, 0))


def _import_image(lab: Lab) -> None:
    """Import the image of runs and servers, which has nothing but links into /usr."""
    archive = base64.b64encode(image.archive()[1]).decode()
    lab.ssh(NODE, f"base64 -d << 'END' | ctr --namespace k8s.io images import -\n{archive}\nEND")


def _pod(name: str, gpus: int) -> str:
    words = {"NAME": name, "LIMITS": f"{RESOURCE}: {gpus}" if gpus else ""}
    return re.sub("NAME|LIMITS", lambda match: words[match[0]], POD)


def _apply(lab: Lab, manifest: str) -> None:
    lab.ssh(PLANE, f"{KUBECTL} apply --filename - << 'END'\n{manifest}\nEND")


def _delete(lab: Lab, pod: str) -> None:
    lab.ssh(PLANE, f"{KUBECTL} delete pod {pod} --namespace {TEAM} --wait")


def _status(lab: Lab, pod: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.ssh(PLANE, f"{KUBECTL} get pod {pod} --namespace {TEAM} --output json"))
    return found["status"]


def _phase(lab: Lab, pod: str) -> str:
    return str(_status(lab, pod)["phase"])


def _need_running(lab: Lab, *pods: str) -> None:
    eventually(lambda: {_phase(lab, pod) for pod in pods} == {"Running"}, f"{' and '.join(pods)} run", 300)


def _need_waiting(lab: Lab, pod: str) -> None:
    """Require that the scheduler finds no GPU for *pod*."""

    def reasons() -> list[str]:
        return [each.get("message", "") for each in _status(lab, pod).get("conditions", [])]

    eventually(lambda: any(f"Insufficient {RESOURCE}" in each for each in reasons()), f"{pod} waits for a GPU")


def _seen(lab: Lab, pod: str) -> dict[str, list[str]]:
    """Return the device nodes of GPUs in *pod*, and the UUIDs of the GPUs that NVIDIA's library shows there."""
    program = f"{KUBECTL} exec --stdin --namespace {TEAM} {pod} -- /usr/bin/python3 - << 'END'\n{SEEN}END"
    found: dict[str, list[str]] = json.loads(lab.ssh(PLANE, program))
    return found


def _need_refused_nodes(lab: Lab, held: int) -> None:
    """Require that the kernel lets even root open no other GPU than the pod's own in the control group of its pod."""
    label = """labels."io.kubernetes.pod.name"==one,labels."io.kubernetes.container.name"==python"""
    script = (
        f"id=$(ctr -n k8s.io containers list -q '{label}')\n"
        "pid=$(ctr -n k8s.io tasks list | awk -v id=$id '$1 == id {print $2}')\n"
        "group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)/cgroup.procs\n"
        f"python3 - $group /dev/nvidia{held} /dev/nvidia{1 - held} << 'END'\n{OPEN}END"
    )
    answers = lab.ssh(NODE, script).split()
    # no driver answers at the number of the node that may be opened
    need(answers == ["ENXIO", "EPERM"], f"opening the own GPU and the other one: {answers}")


def _need_trained(lab: Lab) -> None:
    """Require that a run in a pod with a GPU trains. The stand-in cannot compute, so that the processor does."""
    lab.add_stack("trainings", RUNS)
    lab.stack = "trainings"
    lab.up()
    lab.rackwright("run", "wait", lab.stack, RUN, status=0)
    need(not lab.audit_differences(status=0), "something differs after the training")
    pods = f"{KUBECTL} get pods --namespace {TEAM} --selector rackwright.local/run={RUN} --output json"
    [pod] = json.loads(lab.ssh(PLANE, pods))["items"]
    [container] = pod["spec"]["containers"]
    need(container["resources"]["limits"].get(RESOURCE) == "1", f"the pod of the run has {container['resources']}")
    need(pod["status"]["phase"] == "Succeeded", f"the pod of the run is {pod['status']['phase']}")
