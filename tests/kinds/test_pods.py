"""The objects of runs and servers in pods, and the plans of their kinds."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Absent, Command, Plan, Put, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.kinds.pods import PodFilesKind, PodFilesSpec, PodsKind, image, pods, roll_out
from rackwright.kinds.pods.pod_template import MANAGED_BY
from rackwright.kinds.pods.release import files, release_of
from rackwright.kinds.pods.report import outcome
from rackwright.kinds.pods.spec import GRPC_PORT, WorkloadPart
from rackwright.kinds.shared.run_config import digest
from tests.support.pod_objects import READY, differences_of, differing, facts, pods_of
from tests.support.pod_workloads import IDENTITY, REPOSITORY, RUN, SERVING, TRAINING, made, spec_of


def test_each_object_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An object has hundreds of values, and a property for each: reading all of them for each one is quadratic.
    """
    spec, found = spec_of(TRAINING), facts(TRAINING)
    claims = PodsKind().claims(spec, REPOSITORY)
    read: list[str] = []
    leaves = pods.leaves

    def counted(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
        read.extend([] if path else [path])
        yield from leaves(value, path)

    monkeypatch.setattr(pods, "leaves", counted)

    PodsKind().observe(claims, found)

    assert len(read) == len(made(TRAINING))


@pytest.mark.parametrize("workload", [TRAINING, SERVING], ids=["run", "server"])
def test_pods_keep_to_the_standard_that_their_team_has(workload):
    """
    Source: Kubernetes, "Pod Security Standards", restricted.
    """
    for pod in pods_of(workload):
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]
        assert not pod["automountServiceAccountToken"]
        assert all(volume.keys() & {"persistentVolumeClaim", "emptyDir"} for volume in pod["volumes"])
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"] == {"cpu": "1", "memory": "2Gi"}


@pytest.mark.parametrize("workload", [TRAINING, SERVING], ids=["run", "server"])
def test_pods_write_to_the_tier_alone(workload):
    """
    Programs, code and models of the host are mounted to be read.
    """
    for pod in pods_of(workload):
        for container in pod["containers"]:
            writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
            assert writable == (["/srv/warm/runs/digits"] if workload.run else [])


def test_the_launcher_stays_on_the_first_host_and_workers_on_the_others():
    launcher, worker = pods_of(TRAINING)

    def nodes(pod):
        affinity = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        return affinity["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]

    assert (nodes(launcher), nodes(worker)) == (["oak"], ["elm", "ash"])
    assert launcher["containers"][0]["args"][-1] == "0" and worker["containers"][0]["args"][-1] == "1"


def test_a_rollout_takes_no_pod_away_before_another_is_ready_if_there_is_a_spare_host():
    def strategy(workload):
        return made(workload)["vision/Deployment/digits"]["spec"]["strategy"]["rollingUpdate"]

    assert strategy(SERVING) == {"maxSurge": 1, "maxUnavailable": 0}
    assert strategy(SERVING.model_copy(update={"count": 3})) == {"maxSurge": 0, "maxUnavailable": 1}


def test_all_objects_can_be_found_again():
    for workload in (TRAINING, SERVING):
        for each in made(workload).values():
            assert each["metadata"]["labels"].items() >= MANAGED_BY.items()


def test_what_kubernetes_adds_is_no_difference_and_what_a_person_adds_is():
    """
    A list of mappings has its length as a claim, so that a further container is found.
    """
    assert differing(SERVING, facts(SERVING, **READY)) == []
    found = facts(SERVING, **READY)
    deployment = found._raw["kubernetes_cluster"]["workloads"]["vision/Deployment/digits"]
    deployment["spec"] = json.loads(json.dumps(deployment["spec"]))
    deployment["spec"]["replicas"] = 1
    deployment["spec"]["template"]["spec"]["containers"].append({"name": "more"})
    deployment["managers"] = ["kubectl-edit", "rackwright"]

    assert {path.rpartition("digits.")[2] for path in differing(SERVING, found)} >= {
        "spec.replicas",
        "spec.template.spec.containers.length",
    }


EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a group of files": (
        lambda item: item["spec"]["template"]["spec"]["securityContext"].update(fsGroup=4242),
        "spec.template.spec.securityContext.fsGroup",
    ),
    "an account": (
        lambda item: item["spec"]["template"]["spec"].update(serviceAccountName="other"),
        "spec.template.spec.serviceAccountName",
    ),
    "a name in /etc/hosts": (
        lambda item: item["spec"]["template"]["spec"].update(hostAliases=[{"ip": "192.0.2.1", "hostnames": ["x"]}]),
        "spec.template.spec.hostAliases.length",
    ),
    "a limit": (
        lambda item: item["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].update({"x/y": "1"}),
        "spec.template.spec.containers[0].resources.limits.x/y",
    ),
    "a variable": (
        lambda item: item["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "LD_PRELOAD"}),
        "spec.template.spec.containers[0].env.length",
    ),
    "another default": (
        lambda item: item["spec"]["template"]["spec"].update(dnsPolicy="None"),
        "spec.template.spec.dnsPolicy",
    ),
    "an annotation of the pods": (
        lambda item: item["spec"]["template"]["metadata"].update(annotations={"x": "y"}),
        "spec.template.metadata.annotations.x",
    ),
}


@pytest.mark.parametrize("names", [["rackwright"], ["kube-controller-manager", "rackwright"], ["kubectl-edit"]])
@pytest.mark.parametrize("edit", EDITS)
def test_a_value_that_was_added_is_found_whatever_name_the_editor_gave(edit, names):
    """`kubectl edit --field-manager` takes any name, also that of rackwright or of a controller."""
    change, path = EDITS[edit]
    found = facts(SERVING, **READY)
    deployment = found._raw["kubernetes_cluster"]["workloads"]["vision/Deployment/digits"]
    deployment["spec"] = json.loads(json.dumps(deployment["spec"]))
    deployment["managers"] = names
    change(deployment)

    thing = "object:vision/Deployment/digits"
    paths = {item.path: item.actual for item in differences_of(SERVING, found)}
    assert f"{thing}.{path}" in paths or path in paths[f"{thing}.undeclared"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, "running"),
        ({"conditions": {"Failed": "too often"}}, "failed"),
        ({"conditions": {"SuccessCriteriaMet": ""}}, "finished"),
    ],
)
def test_the_outcome_of_a_run_follows_from_its_jobs(status, expected):
    cluster = facts(TRAINING, Job=status).cluster
    assert cluster is not None
    assert outcome(cluster, "vision", "run", "digits") == expected
    assert outcome(cluster, "vision", "run", "other") == Absent()


@pytest.mark.parametrize(
    ("over", "others", "expected"),
    [
        ("launcher", {}, "finished"),
        ("launcher", {"Failed": "no launcher was found"}, "finished"),
        ("worker", {}, "running"),
        ("worker", {"Failed": "too often"}, "failed"),
    ],
)
def test_a_run_has_finished_when_its_launcher_has(over, others, expected):
    """A worker whose node was lost after the last step waits for a launcher that is over."""
    found = facts(TRAINING)
    for name in ("launcher", "worker"):
        job = found._raw["kubernetes_cluster"]["workloads"][f"vision/Job/digits-{name}"]
        job["conditions"] = {"Complete": ""} if name == over else others
    assert found.cluster is not None

    assert outcome(found.cluster, "vision", "run", "digits") == expected


def test_a_suspended_run_is_stopped():
    found = facts(TRAINING)
    for name in ("launcher", "worker"):
        job = found._raw["kubernetes_cluster"]["workloads"][f"vision/Job/digits-{name}"]
        job["spec"] = {**job["spec"], "suspend": True}
    assert found.cluster is not None

    assert outcome(found.cluster, "vision", "run", "digits") == "stopped"
    assert "pods:vision/run/digits.outcome" in differing(TRAINING, found)


def test_a_plan_sets_all_objects_in_one_step():
    found = Facts(
        {"identity": IDENTITY, "kubernetes_cluster": {**facts(TRAINING)._raw["kubernetes_cluster"], "workloads": {}}}
    )
    spec = spec_of(TRAINING)
    claims = PodsKind().claims(spec, REPOSITORY)
    differences = comparison.diff(claims, PodsKind().observe(claims, found))

    put, command = PodsKind().plan(spec, differences, found, REPOSITORY).steps

    assert isinstance(put, Put) and isinstance(command, Command)
    assert [roll_out.name(each) for each in json.loads(put.content)["items"]][-2:] == [
        "Job/digits-launcher",
        "Job/digits-worker",
    ]
    unknown = comparison.diff(claims, PodsKind().observe(claims, Facts({})))
    assert all(isinstance(item.actual, UnknownValue) for item in unknown)
    assert PodsKind().plan(spec, unknown, Facts({}), REPOSITORY).steps == ()


def test_a_removal_ends_once_nothing_is_left():
    """
    Another fleet's objects of that name are left alone.
    """
    spec = spec_of(TRAINING)
    gone = Facts({"kubernetes_cluster": {"workloads": {}}})

    assert len(PodsKind().removal(spec, facts(TRAINING), REPOSITORY, True).steps) == 1
    assert PodsKind().removal(spec, gone, REPOSITORY, True).steps == ()
    other = spec.model_copy(update={"fleet": "other"})
    for plan in (
        PodsKind().removal(other, facts(TRAINING), REPOSITORY, True),
        PodsKind().plan(other, (), facts(TRAINING), REPOSITORY),
        PodsKind().removal(spec, Facts({}), REPOSITORY, True),
    ):
        assert plan.refusals and not plan.steps


# --- a run that has finished

OVER = {"conditions": {"Complete": ""}}
LONGER = TRAINING.model_copy(update={"run": RUN.model_copy(update={"config": RUN.config.replace("10", "20")})})


def replanned(workload: WorkloadPart, found: Facts) -> Plan:
    spec = spec_of(workload)
    claims = PodsKind().claims(spec, REPOSITORY)
    return PodsKind().plan(spec, comparison.diff(claims, PodsKind().observe(claims, found)), found, REPOSITORY)


def test_a_finished_run_does_not_run_again_for_other_settings_than_its_configuration():
    """
    As on hosts, where its files change and nothing starts. A run that still runs gets its jobs again.
    """
    larger = TRAINING.model_copy(update={"memory": 4 << 30})

    assert differing(larger, facts(TRAINING, Job=OVER)) == []
    assert "object:vision/Job/digits-launcher.spec.template.spec.containers[0].resources.limits.memory" in differing(
        larger, facts(TRAINING)
    )


def test_a_finished_run_with_another_configuration_needs_a_line_in_the_fleet():
    plan = replanned(LONGER, facts(TRAINING, Job=OVER))
    assert plan.steps == ()
    assert [each.problem for each in plan.refusals] == [
        "the run has finished, and its declared configuration has changed"
    ]
    assert LONGER.run is not None
    going_on = LONGER.model_copy(update={"run": LONGER.run.model_copy(update={"go_on": True})})
    for workload, found in ((going_on, facts(TRAINING, Job=OVER)), (LONGER, facts(TRAINING))):
        assert replanned(workload, found).refusals == () and len(replanned(workload, found).steps) == 2


def test_the_files_of_a_finished_run_keep_its_configuration():
    """
    The host of the launcher knows that the run has finished; any host knows another model.
    """
    model = TRAINING.model_copy(update={"run": RUN.model_copy(update={"config": '{"model": {"kind": "y"}}'})})
    found = Facts(
        {
            **{name: {} for name in ("owners", "servers")},
            **{name: {"another": {}} for name in ("files", "directories", "users", "units")},
            "identity": IDENTITY,
            "covers": {"files": ["/etc", "/var/lib/rackwright"], "texts": [], "sysctls_left_out": []},
            "images": {"containerd": []},
            "mounts": [
                {"target": "/", "root": "/", "device": "sda1", "type": "ext4", "options": []},
                {"target": "/srv/warm", "root": "/", "device": "sdb1", "type": "xfs", "options": []},
            ],
            "runs": {"digits": {"outcome": "finished", "config": digest(RUN.config), "model": {"kind": "x"}}},
        }
    )

    def refusals(workload):
        spec, kind = PodFilesSpec(host="oak", fleet="f", identity=IDENTITY, workload=workload), PodFilesKind()
        claims = kind.claims(spec, REPOSITORY)
        differences = comparison.diff(claims, kind.observe(claims, found))
        return [each.problem for each in kind.plan(spec, differences, found, REPOSITORY).refusals]

    assert refusals(TRAINING) == []
    assert refusals(LONGER) == ["the run has finished, and its declared configuration has changed"]
    assert refusals(model)[-1] == "the declared model of the run has changed (kind)"


# --- files on hosts


def test_another_release_has_another_directory():
    """
    Running pods keep the code and the settings with which they began. A provenance changes no release.
    """
    other = TRAINING.model_copy(update={"run": RUN.model_copy(update={"config": "{}"})})
    noted = TRAINING.model_copy(update={"run": RUN.model_copy(update={"provenance": {"fleet": "x"}})})

    assert release_of(TRAINING, REPOSITORY) != release_of(other, REPOSITORY)
    assert release_of(TRAINING, REPOSITORY) == release_of(noted, REPOSITORY)
    code = replace(REPOSITORY)
    code.__dict__["workloads"] = b"other code"
    assert release_of(TRAINING, REPOSITORY) != release_of(TRAINING, code)


def test_the_pods_of_a_run_know_each_other_by_name():
    spec = PodFilesSpec(host="elm", fleet="f", identity=IDENTITY, workload=TRAINING)
    texts = {file.path: file.content for file in files(spec, REPOSITORY)}
    [plan] = [json.loads(text) for path, text in texts.items() if path.startswith("/var") and path.endswith("run.json")]

    assert [each["address"] for each in plan["hosts"]] == ["digits-launcher-0.digits", "digits-worker-0.digits"]
    assert json.loads(texts["/etc/rackwright/runs/digits/run.json"])["home"] == "/srv/warm/runs/digits"


def test_a_model_is_sent_verified_and_then_in_place():
    spec = PodFilesSpec(host="elm", fleet="f", identity=IDENTITY, workload=SERVING)
    kind = PodFilesKind()
    claims = kind.claims(spec, REPOSITORY)
    names = ("files", "directories", "owners", "servers", "users", "units")
    found = Facts({"identity": IDENTITY, "images": {"containerd": []}, **{name: {} for name in names}})
    differences = [item for item in comparison.diff(claims, kind.observe(claims, found)) if not item.is_unknown]

    texts = [step.text for step in kind.plan(spec, differences, found, REPOSITORY).steps]

    assert texts[0] == "note in the owner file: creating" and texts[-1] == "note in the owner file: ready"
    assert texts.index("send digits 0123456789ab: model.json") < texts.index("verify digits 0123456789ab")
    assert f"import the image {image.name()}" in texts


def test_the_image_is_the_same_bytes_and_holds_no_program():
    digest, archive = image.archive()
    image.archive.cache_clear()

    assert image.archive() == (digest, archive)
    assert len(archive) < 64 << 10
    with tarfile.open(fileobj=io.BytesIO(archive)) as out:
        assert {"oci-layout", "index.json"} < {*out.getnames()}


# --- a server whose replicas have several pods


def foreign(kind: str, namespace: str, **labels: str) -> Any:
    """Return an object that the operator of another team has made, with the labels of a run or server of this fleet."""
    marks = {**MANAGED_BY, "rackwright.local/server": "digits", "rackwright.local/fleet": "mine", **labels}
    return {"spec": {}, "labels": marks, "generation": 1, "managers": [], "status": {}, "conditions": {}}


def test_a_server_with_grpc_has_a_second_port_at_its_service_and_in_its_pods() -> None:
    def ports(workload: WorkloadPart) -> tuple[list[tuple[str, int, int]], list[int]]:
        objects = made(workload)
        service = objects["vision/Service/digits"]["spec"]["ports"]
        [container] = objects["vision/Deployment/digits"]["spec"]["template"]["spec"]["containers"]
        found = [(each["name"], each["port"], each["targetPort"]) for each in service]
        return found, [each["containerPort"] for each in container["ports"]]

    assert SERVING.server is not None
    server = SERVING.server.model_copy(update={"grpc_port": 9000})
    http, inside = ports(SERVING)

    assert ports(SERVING.model_copy(update={"server": server})) == (
        [*http, ("grpc", 9000, GRPC_PORT)],
        [*inside, GRPC_PORT],
    )


@pytest.mark.parametrize("kind", ["Service", "Job", "Deployment", "PersistentVolumeClaim", "HorizontalPodAutoscaler"])
def test_labels_of_another_team_hold_no_rollout_and_no_removal_up(kind):
    """An operator chooses the labels of the objects of its team."""
    found = facts(SERVING, **READY)
    found._raw["kubernetes_cluster"]["workloads"][f"speech/{kind}/digits"] = foreign(kind, "speech")

    assert differing(SERVING, found) == []
    plan = PodsKind().plan(spec_of(SERVING), differences_of(SERVING, facts(SERVING)), found, REPOSITORY)
    assert plan.steps and not plan.refusals
    removal = PodsKind().removal(spec_of(SERVING), found, REPOSITORY, True)
    assert removal.steps and not removal.refusals


def test_another_fleet_in_the_same_team_is_still_refused():
    found = facts(SERVING, **READY)
    found._raw["kubernetes_cluster"]["workloads"]["vision/Service/digits"]["labels"]["rackwright.local/fleet"] = "other"
    assert PodsKind().removal(spec_of(SERVING), found, REPOSITORY, True).refusals


def test_a_volume_of_another_team_is_not_ours():
    """Volumes are in no namespace: the namespace of their claim counts."""
    workloads = {"PersistentVolume/x": foreign("PersistentVolume", "speech")}
    workloads["PersistentVolume/x"]["spec"] = {"claimRef": {"namespace": "speech", "name": "x"}}
    gone = Facts({"kubernetes_cluster": {"workloads": workloads}})
    assert PodsKind().removal(spec_of(SERVING), gone, REPOSITORY, True) == Plan()


def test_a_removal_deletes_the_volumes_of_claims_of_the_team_alone(tmp_path):
    """Two teams may have a run of the same name, and a label of a volume says nothing about its team."""
    log = tmp_path / "log"
    program = tmp_path / "kubectl"
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\ncase "$*" in *jsonpath*) echo "vision-run-digits-x ";; esac\n')
    program.chmod(0o755)
    [step] = PodsKind().removal(spec_of(TRAINING), facts(TRAINING), REPOSITORY, True).steps
    assert isinstance(step, Command)
    subprocess.run(step.argv, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)

    lines = log.read_text().splitlines()
    [asked] = [each for each in lines if "jsonpath" in each]
    assert "@.spec.claimRef.namespace=='vision'" in asked
    assert lines[-1].startswith("delete persistentvolumes vision-run-digits-x --timeout")
    assert all("--namespace" in each or "-n vision" in each for each in lines[:-1] if each.startswith("delete"))


def test_a_job_with_another_template_is_made_again_whatever_its_annotation_says():
    """The annotation has the digest of what was declared, and an operator can copy it."""
    found = facts(TRAINING)
    job = found._raw["kubernetes_cluster"]["workloads"]["vision/Job/digits-worker"]
    job["spec"] = json.loads(json.dumps(job["spec"]))
    job["spec"]["template"]["spec"]["hostAliases"] = [{"ip": "192.0.2.1", "hostnames": ["x"]}]
    spec = spec_of(TRAINING)
    put, _ = PodsKind().plan(spec, differences_of(TRAINING, found), found, REPOSITORY).steps
    assert isinstance(put, Put) and json.loads(put.content)["again"] == ["Job/digits-worker"]


def test_paths_of_the_host_are_read_only_at_each_place():
    """Kubelet binds a volume once more, with the options of the volume and without those of its path."""
    for workload in (TRAINING, SERVING):
        items = made(workload)
        volumes = [each["spec"] for each in items.values() if each["kind"] == "PersistentVolume"]
        assert len(volumes) >= 3
        for volume in volumes:
            path = volume["local"]["path"]
            is_output = path == workload.out
            assert is_output or path.startswith("/run/rackwright/pods/")
            assert ("ro" in volume.get("mountOptions", ())) != is_output
        for pod in pods_of(workload):
            for volume in pod["volumes"]:
                assert volume["persistentVolumeClaim"].get("readOnly", False) == (volume["name"] != "out")
