"""Line 2: a pod changes nothing at a path of its host, whatever the pod says about its volumes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright.kinds.cluster.quantity import Object
from rackwright.kinds.pods import image, mounts
from rackwright.kinds.pods.spec import WorkloadPart
from rackwright.toolchain import cache, go
from rackwright.toolchain.kubernetes.programs import MODULES
from tests.support import mount_attempts
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import ROOT, Log
from tests.support.pod_lab import KUBECTL, NODES, PLANE, TEAM, PodLab, pod_lab
from tests.support.pod_workloads import SERVING, TRAINING, made

CHANGES = len(mount_attempts.attempts(""))


def volumes(workload: WorkloadPart) -> Iterator[tuple[mounts.ReadOnlyMount, Object]]:
    """Yield each mount of *workload* with the volume that has it as its path."""
    items = [each for each in made(workload).values() if each["kind"] == "PersistentVolume"]
    for mount in mounts.mounts(workload):
        yield mount, next(each for each in items if each["spec"]["local"]["path"] == mount.target)


def host_directory(log: Log) -> Path:
    """Return a directory that stands for /usr of a host."""
    place = log.empty_directory() / "usr"
    (place / "bin").mkdir(parents=True)
    (place / "bin/tool").write_text("a program of root\n")
    return place


def as_kubelet(source: Path, target: Path, options: list[str]) -> str:
    """Return the two calls of mount(8) by which kubelet sets up a local volume.

    Source: k8s.io/mount-utils, MakeBindOptsSensitive.
    """
    more = ",".join(["bind", "remount", *options])
    return f"mount -o bind {source} {target}\nmount -o {more} {source} {target}\n"


def possible(script: str, path: Path) -> list[str]:
    """Return the changes that are possible at *path* after the mounts of *script*, in a mount namespace of its own."""
    argv = ["unshare", "--mount", sys.executable, str(ROOT / "tests/support/mount_attempts.py"), script, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"the mounts were not made: {done.stderr}")
    return done.stdout.splitlines()


@line("hardening2", 2, part="mounts")
def test_root_changes_nothing_at_a_path_as_kubelet_mounts_it(log: Log) -> str:
    """With the program of each unit, and the options of each volume by mount(8); without them all are possible."""
    if os.geteuid() != 0:
        pytest.skip("mounts need root")
    tried = 0
    for workload in (TRAINING, SERVING):
        for mount, volume in volumes(workload):
            for with_unit in (True, False):  # a unit that has not started, or has another's mount over it
                host = host_directory(log)
                bound, pod = host.parent / "bound", host.parent / "pod"
                bound.mkdir(), pod.mkdir()
                unit = f"{sys.executable} {mounts.PROGRAM} {host} {bound}\n" if with_unit else ""
                kubelet = as_kubelet(bound if with_unit else host, pod, volume["spec"]["mountOptions"])
                found = possible(unit + kubelet, pod)
                need(not found, f"{mount.source}: {found}")
                tried += CHANGES
    host = host_directory(log)
    pod = host.parent / "pod"
    pod.mkdir()
    before = possible(as_kubelet(host, pod, []), pod)
    need(len(before) >= CHANGES - 1, f"without the options only {before} were possible: the test shows nothing")
    return f"{tried} changes by root at {tried // CHANGES} volumes refused; {len(before)} of {CHANGES} possible without"


@line("hardening2", 2, part="kubelet")
def test_kubelet_gives_no_path_of_the_host_to_the_group_of_a_pod(log: Log) -> str:
    """Kubelet's own code sets up the volumes of a run with a fsGroup, with its real mounts."""
    if os.geteuid() != 0:
        pytest.skip("mounts need root")
    program = build_proof(log)
    checked = []
    for workload in (TRAINING, SERVING):
        for mount, volume in volumes(workload):
            host = host_directory(log)
            answer, modes = set_up(program, volume, host)
            need("read-only file system" in answer or "ERROR <nil>" in answer, answer)
            need(modes == {"bin": (0o755, 0, 0), "bin/tool": (0o644, 0, 0)}, f"{mount.source}: {modes}")
            checked.append(mount.source)
    host = host_directory(log)
    plain = {"metadata": {"name": "x"}, "spec": {"local": {"path": str(host)}, "volumeMode": "Filesystem"}}
    _, before = set_up(program, plain, host)
    need(before["bin"][2] == 4242, f"a volume without options keeps its group: the test shows nothing: {before}")
    return (
        f"{len(checked)} volumes of a run and a server kept owner and mode; without their options kubelet made"
        f" bin {before['bin'][0]:o} of group {before['bin'][2]}"
    )


def build_proof(log: Log) -> Path:
    """Return the program of tests/support/local_volume, built with the pinned sources of kubelet."""
    into = cache.directory() / "kubernetes" / f"local-volume-{go.digest(ROOT / 'tests/support/local_volume')}"
    if not (into / "proof.test").exists():
        module = log.empty_directory() / "module"
        module.mkdir()
        for name in ("go.mod", "go.sum"):
            shutil.copy(MODULES / "kubernetes" / name, module / name)
        shutil.copy(ROOT / "tests/support/local_volume/setup_test.go", module / "setup_test.go")
        into.mkdir(parents=True, exist_ok=True)
        with go.hold_builder("local-volume", log) as builder:
            builder.build(go.Programs(module, (".",), tests=True, tags="grpcnotrace"), into)
        [built] = into.iterdir()
        built.rename(into / "proof.test")
    return into / "proof.test"


def set_up(program: Path, volume: Object, host: Path) -> tuple[str, dict[str, tuple[int, int, int]]]:
    """Set *volume* up as kubelet does, at *host* in the place of its path, and return what it says, and the modes."""
    kubelet = host.parent / "kubelet"
    shutil.rmtree(kubelet, ignore_errors=True)
    kubelet.mkdir()
    volume = json.loads(json.dumps(volume))
    volume["spec"]["local"]["path"] = str(host)
    variables = {**os.environ, "VOLUME": json.dumps(volume), "KUBELET": str(kubelet), "READ_ONLY": "false"}
    script = f"mount --make-rprivate /\n{shlex.quote(str(program))} -test.run TestSetUp"
    argv = ["unshare", "--mount", "sh", "-euc", script]
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"{done.stdout}{done.stderr}")
    modes = {}
    for name in ("bin", "bin/tool"):
        status = (host / name).stat()
        modes[name] = (status.st_mode & 0o7777, status.st_uid, status.st_gid)
    return done.stdout, modes


RUN = "digits"
IN_PODS = f"""\
fleet: pods
uses: fleet.yaml
runs:
  {RUN}:
    recipe: digits
    hosts: [{", ".join(NODES[:2])}]
    on: kubernetes
    pods: {{team: {TEAM}, count: 1, memory: 2GiB}}
    checkpoints: {{tier: warm}}
    set: {{steps: 100000}}
"""
BINDINGS = ("pods", "templates", "cronjobs", "jobsets")
HOSTILE = "hostile"
WRITE = "import os; os.chmod('/usr/bin/env', 0o777); open('/usr/bin/planted', 'w').write('x')"


@line("hardening2", 2, part="cluster")
def test_a_hostile_pod_on_a_real_kubelet_changes_nothing_of_its_host(log: Log) -> str:
    """First with the admission policies, then without them; a mount that was made writable is found and mended."""
    with pod_lab(log, IN_PODS) as lab:
        lab.up()
        need(not lab.audit_differences(status=0), "something differs after `up`")
        node = next(iter(lab.pods(f"rackwright.local/run={RUN}").values()))
        before = _modes(lab, node)
        claims = json.loads(lab.kubectl(f"get persistentvolumeclaims --namespace {TEAM} --output json"))["items"]
        names = [each["metadata"]["name"] for each in claims]
        pods = [_hostile_pod(lab, name, node, number) for number, name in enumerate(names) if "-out-" not in name]
        log(f"{len(pods)} hostile pods, refused by the policies")
        for pod in pods:
            answer = _create(lab, pod)
            need("claims of rackwright" in answer or "readOnly" in answer, f"the API says {answer!r}")
        log("the same pods in a cluster without the policies")
        for name in BINDINGS:
            lab.kubectl(f"delete validatingadmissionpolicybinding rackwright-teams-{name}")
        eventually(lambda: "created" in _create(lab, pods[0]), "the policies have no effect any more", 120)
        for pod in pods[1:]:
            need("created" in (answer := _create(lab, pod)), f"the API says {answer!r}")
        eventually(lambda: len(_refusals(lab)) == len(pods), "kubelet or the pod itself fails at each volume", 300)
        need((found := _modes(lab, node)) == before, f"the host has {found}, and had {before}")
        log("a mount that is made writable by hand")
        mount = f"/run/rackwright/pods/run-{RUN}/system"
        lab.ssh(node, f"mount -o remount,bind,rw {mount}")
        differing = {thing for _, thing in lab.audit_differences(status=1)}
        need(f"mount:{mount}" in differing, f"the audit finds {differing}")
        lab.kubectl(f"delete pods --namespace {TEAM} --selector app={HOSTILE} --grace-period=0 --force")
        lab.up()
        need(not lab.audit_differences(status=0), "something differs after the correction")
    return f"{len(pods)} volumes: {len(pods)} pods refused by the API, and {len(pods)} by kubelet; a remount was mended"


def _hostile_pod(lab: PodLab, claim: str, node: str, number: int) -> Object:
    """Return a pod with the image of rackwright's pods that mounts *claim* writable, and writes to it."""
    container = {
        "name": "x",
        "image": image.name(),
        "imagePullPolicy": "Never",
        "command": ["/usr/bin/python3", "-c", WRITE],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "v", "mountPath": "/usr"}],
    }
    rights = {
        "runAsNonRoot": True,
        "runAsUser": image.ACCOUNT,
        "runAsGroup": image.ACCOUNT,
        "fsGroup": 4242,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = {
        "restartPolicy": "Never",
        "nodeSelector": {"kubernetes.io/hostname": node},
        "securityContext": rights,
        "containers": [container],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
    }
    metadata = {"name": f"{HOSTILE}-{number}", "namespace": TEAM, "labels": {"app": HOSTILE}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _create(lab: PodLab, pod: Object) -> str:
    """Try to make *pod*, and return what kubectl says."""
    return lab.ssh(PLANE, f"{KUBECTL} create --filename - 2>&1 << 'END' || true\n{json.dumps(pod)}\nEND")


def _refusals(lab: PodLab) -> set[str]:
    """Return the hostile pods that kubelet does not start, or whose program has failed."""
    pods = json.loads(lab.kubectl(f"get pods --namespace {TEAM} --selector app={HOSTILE} --output json"))["items"]
    events = lab.kubectl(f"get events --namespace {TEAM} --output json")
    failed = {each["metadata"]["name"] for each in pods if each["status"]["phase"] == "Failed"}
    for event in json.loads(events)["items"]:
        if event["reason"] == "FailedMount" and "read-only file system" in event["message"]:
            failed.add(event["involvedObject"]["name"])
    return {name for name in failed if name.startswith(HOSTILE)}


def _modes(lab: PodLab, node: str) -> str:
    """Return owners and modes of programs and directories of a node, and whether a file was planted."""
    return lab.ssh(node, "stat -c '%n %a %u %g' /usr /usr/bin /usr/bin/env /usr/lib; ls /usr/bin/planted 2>&1 || true")
