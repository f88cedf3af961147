"""Set the objects of a run or server in its cluster, admit it as a whole, and wait. Runs on the control plane.

    python3 roll_out.py OBJECTS.json SECONDS

OBJECTS.json has a list of objects of one namespace, the names of other objects with pods, which end, and those of
jobs with another template, which are made again. Jobs start
suspended, and only once all of their pods fit at the same time, so that two runs never wait for each other. A job set
waits in a queue of Kueue, which starts it. A deployment, or groups of pods, that do not become ready go back to what
they were. Exit status: 0 the pods run or wait in their queue, 4 they do not fit, or are not ready.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any, Iterator

Object = dict[str, Any]
KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=60s")
MANAGER = "--field-manager=rackwright"
CONTENT = "rackwright.local/content"
CONFIG = "rackwright.local/config"
HOSTNAME = "kubernetes.io/hostname"
IMMUTABLE = ("PersistentVolume", "PersistentVolumeClaim")
UNITS = {
    "": 1,
    "n": 1e-9,
    "u": 1e-6,
    "m": 0.001,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}
"""All units of quantities. Source: Kubernetes, apimachinery, "Quantity"."""
QUANTITY = re.compile(r"([+-]?(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+))(?:([eE][+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)")
POLL_SECONDS = 2
LOG_LINES = 12
JOBS, QUEUE_ENTRIES = ("Job", "JobSet"), "workloads.kueue.x-k8s.io"
SERVERS = {"Deployment": "availableReplicas", "LeaderWorkerSet": "readyReplicas"}
"""Kinds of objects with the pods of a server, each with the count of those that serve."""
ADMISSION_SECONDS = 20
"""Seconds that Kueue has to admit a run for which there is room, before it counts as waiting."""
STARTS = 3
"""Starts of a container of a run after which its failure is no accident, such as a peer that was not there yet."""


class RollOutFailed(Exception):
    """The pods do not run; the message says why."""


def main(path: str, seconds: str) -> int:
    with open(path, encoding="utf-8") as file:
        read = json.load(file)
    objects, ending, again = read["items"], read["ending"], read.get("again", ())
    before = {name(item): actual_object(item) for item in objects}
    jobs = [item for item in objects if item["kind"] in JOBS]
    left = []
    if jobs and has_finished(jobs[0], before[name(jobs[0])]):  # the launcher, which ends after the last step of all
        left = [job for job in jobs[1:] if (actual := before[name(job)]) and not is_over(actual)]
        objects, jobs = [item for item in objects if item["kind"] not in JOBS], []
    try:
        for job in left:  # its node was lost at the end, and its next pod waits for the launcher
            patch(job, {"spec": {"suspend": True}})
        owners = [item for item in objects if item["kind"] in (*JOBS, *SERVERS)]
        for each in ending if owners else ():
            end(each, owners[0])
        for item in objects:
            if item["kind"] == "Deployment" and "replicas" not in item["spec"]:
                item["spec"]["replicas"] = scaled_count(objects, before[name(item)])
            put(item, before[name(item)], name(item) in again)
        if jobs:
            start(jobs, float(seconds))
        for item in objects:
            if item["kind"] in SERVERS:
                roll_out(item, before[name(item)], float(seconds))
    except RollOutFailed as reason:
        print(reason, flush=True)
        return 4
    return 0


def name(item: Object) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def actual_object(item: Object) -> Object | None:
    """Return the object as it is in the cluster; None if it does not exist."""
    text = kubectl("get", item["kind"], item["metadata"]["name"], *place(item), "--ignore-not-found", "--output=json")
    return json.loads(text) if text.strip() else None


def place(item: Object) -> tuple[str, ...]:
    namespace = item["metadata"].get("namespace")
    return (f"--namespace={namespace}",) if namespace else ()


def put(item: Object, before: Object | None, again: bool = False) -> None:
    if item["kind"] in JOBS:
        put_job(item, before, again)
    elif before is None:
        send("create", item)
    elif item["kind"] not in IMMUTABLE:
        send("replace", item)


def scaled_count(objects: list[Object], before: Object | None) -> Any:
    """Return the number of pods that the autoscaler has chosen; for a new deployment its smallest one."""
    [scaler] = [item["spec"] for item in objects if item["kind"] == "HorizontalPodAutoscaler"]
    found = before["spec"].get("replicas", 0) if before else 0
    return min(max(found, scaler["minReplicas"]), scaler["maxReplicas"])


def put_job(item: Object, before: Object | None, again: bool = False) -> None:
    """Create the job, suspended; a job with other content ends first, one with equal content only gets its numbers.

    Args:
        again: Whether the template of the job differs, whatever its annotation says about its content.
    """
    if not again and before is not None and before["metadata"].get("annotations", {}).get(CONTENT) == content(item):
        if item["kind"] == "JobSet":
            patch(item, {"metadata": {"labels": item["metadata"]["labels"]}})
            activate(before)
        elif not is_over(before):
            wanted = {key: value for key, value in item["spec"].items() if key not in ("template", "suspend")}
            patch(item, {"spec": wanted})
        return
    if before is not None:
        end(name(item), item)
    send("create", {**item, "spec": {**item["spec"], "suspend": True}})


def end(which: str, item: Object) -> None:
    """Delete the object *which*, whose pods stop as those of *item*, and wait until they have ended."""
    print(f"ending {which.partition('/')[2]}, and waiting for its pods", flush=True)
    seconds = pod_template(item)["terminationGracePeriodSeconds"] + 120
    argv = ("delete", which, *place(item), "--cascade=foreground")
    try:
        kubectl(*argv, f"--timeout={seconds}s", timeout=seconds + 60)
    except RollOutFailed as reason:
        raise RollOutFailed(
            f"{reason}; a pod on a node that is lost ends when the node is back, or is removed"
        ) from None


def pod_template(item: Object) -> Object:
    """Return the pod of a job or deployment, of a job set that of its first job, of groups that of their leaders."""
    spec = item["spec"]
    if item["kind"] == "LeaderWorkerSet":
        spec = {"template": spec["leaderWorkerTemplate"]["leaderTemplate"]}
    elif item["kind"] == "JobSet":
        spec = spec["replicatedJobs"][0]["template"]["spec"]
    pod: Object = spec["template"]["spec"]
    return pod


def content(item: Object) -> Any:
    return item["metadata"]["annotations"][CONTENT]


def has_finished(job: Object, before: Object | None) -> bool:
    """Return whether the job has finished with the configuration of *job*; made again, it would find nothing to do."""
    return before is not None and is_over(before) and config(before) == config(job)


def config(item: Object) -> Any:
    return item["metadata"].get("labels", {}).get(CONFIG)


def is_over(job: Object) -> bool:
    return any(each["type"] in ("Complete", "SuccessCriteriaMet", "Completed") and each["status"] == "True"
               for each in job.get("status", {}).get("conditions", ()))  # fmt: skip


# --- a run


def start(jobs: list[Object], seconds: float) -> None:
    """Start suspended *jobs* if all of their pods fit, and wait until all run, or wait in their queue."""
    now = [actual_object(job) or {} for job in jobs]
    waiting = [job for job, actual in zip(jobs, now) if actual["spec"].get("suspend") and not is_over(actual)]
    queued = jobs[0]["kind"] == "JobSet"
    if waiting and not queued:
        admit(waiting)
        for job in waiting:
            patch(job, {"spec": {"suspend": False}})
    admitted = time.monotonic() + ADMISSION_SECONDS
    end = time.monotonic() + seconds
    while True:
        now = [actual_object(job) or {} for job in jobs]
        if all(is_over(job) or is_ready(job) for job in now):
            return
        if queued and now[0]["spec"].get("suspend") and time.monotonic() > admitted:
            print(f"{jobs[0]['metadata']['name']} is queued, and starts by itself: {why_queued(now[0])}", flush=True)
            return
        failed = [
            each for job in now for each in job.get("status", {}).get("conditions", ()) if each["type"] == "Failed"
        ]
        if failed:
            raise RollOutFailed(f"{failed[0].get('message', 'a job failed')}{last_lines(jobs[0])}")
        if reason := crashing(jobs[0], STARTS):
            raise RollOutFailed(f"{reason}{last_lines(jobs[0])}")
        if time.monotonic() > end:
            raise RollOutFailed(f"not all pods run after {seconds:.0f} s{last_lines(jobs[0])}")
        time.sleep(POLL_SECONDS)


def is_ready(job: Object) -> bool:
    """Return whether all pods of a job run, or all jobs of a job set have their pods."""
    status = job.get("status", {})
    if job["kind"] == "Job":
        return bool(status.get("ready", 0) >= job["spec"]["completions"])
    several = status.get("replicatedJobsStatus", ())
    return bool(sum(each["ready"] + each["succeeded"] for each in several) >= len(job["spec"]["replicatedJobs"]))


def activate(job: Object) -> None:
    """Put a job that was stopped back into its queue."""
    entry = entry_of(job)
    if entry and not entry["spec"].get("active", True):
        patch({**entry, "kind": QUEUE_ENTRIES}, {"spec": {"active": True}})


def entry_of(job: Object) -> Object | None:
    """Return what Kueue has in its queue for *job*; None as long as it has nothing."""
    selector = f"--selector=kueue.x-k8s.io/job-uid={job['metadata']['uid']}"
    argv = ("get", QUEUE_ENTRIES, *place(job), selector, "--output=json")
    return next(iter(json.loads(kubectl(*argv))["items"]), None)


def why_queued(job: Object) -> str:
    conditions = (entry_of(job) or {}).get("status", {}).get("conditions", ())
    return next(
        (each["message"] for each in conditions if each["type"] == "QuotaReserved"), "Kueue has not seen it yet"
    )


def admit(jobs: list[Object]) -> None:
    """Raise RollOutFailed unless the pods of all *jobs* fit on free nodes at the same time, and into the quota."""
    namespace = jobs[0]["metadata"]["namespace"]
    needs = [(job["spec"]["completions"], requests(job["spec"]["template"]["spec"]), hosts(job)) for job in jobs]
    free = free_on_nodes()
    taken: set[str] = set()
    for count, need, allowed in needs:
        fitting = [
            node
            for node in allowed
            if node not in taken
            and node in free
            and all(free[node].get(key, 0) >= value for key, value in need.items())
        ]
        if len(fitting) < count:
            wanted = ", ".join(f"{key} {value:g}" for key, value in need.items())
            raise RollOutFailed(
                f"the pods do not fit together: {count} of them need {wanted} each, and of the nodes"
                f" {', '.join(allowed)} that much is free on {', '.join(fitting) or 'none'}; the run stays suspended"
            )
        taken.update(fitting[:count])
    check_quota(namespace, [(count, need) for count, need, _ in needs])


def hosts(job: Object) -> list[str]:
    affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return list(term["matchExpressions"][0]["values"])


def requests(pod: Object) -> dict[str, float]:
    total: dict[str, float] = {}
    for container in pod["containers"]:
        for key, value in container.get("resources", {}).get("requests", {}).items():
            total[key] = total.get(key, 0) + number(value)
    return total


def free_on_nodes() -> dict[str, dict[str, float]]:
    """Return what is free on each node that is ready and takes pods, by its host name.

    A node reports its own status: one whose report cannot be read has nothing free, and no other node is concerned.
    """
    free = {}
    for node in json.loads(kubectl("get", "nodes", "--output=json"))["items"]:
        try:
            free.update(free_of(node))
        except (RollOutFailed, KeyError, TypeError, AttributeError) as reason:
            print(f"the report of node {node['metadata']['name']} cannot be read: {reason}", flush=True)
    for pod in json.loads(kubectl("get", "pods", "--all-namespaces", "--output=json"))["items"]:
        node = free.get(pod["spec"].get("nodeName"))
        if node is not None and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            for key, value in requests(pod["spec"]).items():
                node[key] = node.get(key, 0) - value
    return free


def free_of(node: Object) -> dict[str, dict[str, float]]:
    """Return what *node* offers by its name; nothing if it is not ready or takes no pods."""
    conditions = node["status"].get("conditions", ())
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    if not ready or node["spec"].get("unschedulable"):
        return {}
    return {node["metadata"]["name"]: {key: number(each) for key, each in node["status"]["allocatable"].items()}}


def check_quota(namespace: str, needs: list[tuple[int, dict[str, float]]]) -> None:
    for quota in json.loads(kubectl("get", "resourcequotas", f"--namespace={namespace}", "--output=json"))["items"]:
        hard, used = quota["status"].get("hard", {}), quota["status"].get("used", {})
        for key, limit in hard.items():
            wanted = sum(count * need.get(key.partition("requests.")[2] or "none", 0) for count, need in needs)
            left = number(limit) - number(used.get(key, "0"))
            if key.startswith("requests.") and wanted > left:
                raise RollOutFailed(
                    f"the quota of {namespace} has room for {left:g} of {key}, and the run needs {wanted:g}; it stays"
                    " suspended"
                )


def number(text: str) -> float:
    """Return the value of a quantity of Kubernetes, such as 500m or 4Gi.

    Raises:
        RollOutFailed: it is no quantity.
    """
    found = QUANTITY.fullmatch(str(text))
    if not found:
        raise RollOutFailed(f"{str(text)[:50]!r} is no quantity of Kubernetes")
    digits, exponent, unit = found.groups()
    return float(digits + (exponent or "")) * UNITS[unit or ""]


# --- a server


def roll_out(item: Object, before: Object | None, seconds: float) -> None:
    """Wait until all pods have the new template; go back to *before* if they do not get ready."""
    reason = wait_for(item, seconds)
    if not reason:
        return
    reason += last_lines(item)
    if before is None:
        raise RollOutFailed(f"{item['metadata']['name']} is not ready: {reason}")
    metadata = {
        key: value for key, value in before["metadata"].items() if key in ("name", "namespace", "labels", "annotations")
    }
    send("replace", {**{key: before[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})
    again = wait_for(before, seconds)
    state = f"is not ready either: {again}" if again else "serves again"
    raise RollOutFailed(f"{item['metadata']['name']} is not ready: {reason}\nthe previous release {state}")


def wait_for(item: Object, seconds: float) -> str:
    """Return an empty text once all pods are new and ready, or the reason why they are not."""
    end = time.monotonic() + seconds
    while True:
        actual = actual_object(item) or {}
        status, wanted = actual.get("status", {}), actual.get("spec", {}).get("replicas", 0)
        if status.get("observedGeneration", 0) >= actual.get("metadata", {}).get("generation", 1):
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", SERVERS[item["kind"]])]
            if counts == [wanted] * 3:
                return ""
            if crashed := crashing(item):
                return crashed
            for each in status.get("conditions", ()):
                # groups that are ready do not progress either
                if item["kind"] == "Deployment" and each["type"] == "Progressing" and each["status"] == "False":
                    return str(each.get("message"))
        if time.monotonic() > end:
            return f"not all pods are ready after {seconds:.0f} s"
        time.sleep(POLL_SECONDS)


def crashing(item: Object, starts: int = 1) -> str:
    """Return why a pod of the template of *item* has ended *starts* times without success; empty if none has."""
    wanted = programs(pod_template(item))
    for pod in pods(item):
        if item["kind"] in SERVERS and programs(pod["spec"]) != wanted:
            continue  # a pod of another release, which is about to end
        for each in (*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())):
            if (
                each.get("restartCount", 0) >= starts
                and not each.get("ready")
                and "running" not in each.get("state", {})
            ):
                last = each.get("lastState", {}).get("terminated") or each["state"].get("terminated") or {}
                return f"container {each['name']} of {pod['metadata']['name']} ended with {last.get('exitCode', '?')}"
    return ""


# --- both


def pods(item: Object) -> Iterator[Object]:
    sort = next(key for key in ("rackwright.local/run", "rackwright.local/server") if key in item["metadata"]["labels"])
    selector = f"--selector={sort}={item['metadata']['labels'][sort]}"
    yield from json.loads(kubectl("get", "pods", *place(item), selector, "--output=json"))["items"]


def programs(pod: Object) -> list[Any]:
    return [each.get("args") for each in (*pod.get("initContainers", ()), *pod["containers"])]


def last_lines(item: Object) -> str:
    """Return the last lines of the first pod that is not ready, after a line break; empty without such a pod."""
    for pod in sorted(pods(item), key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True):
        states = (*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ()))
        for each in states:
            over = each.get("state", {}).get("terminated") or {}
            if each.get("ready") or over.get("exitCode") == 0:
                continue
            waits = each.get("state", {}).get("waiting", {})
            argv = ("logs", pod["metadata"]["name"], *place(item), f"--container={each['name']}", f"--tail={LOG_LINES}")
            lines = next(filter(None, (log_lines(*argv, *more) for more in ((), ("--previous",)))), "")
            return f"\n{pod['metadata']['name']}: {waits.get('message') or waits.get('reason') or ''}\n{lines}"
        if not states:
            why = [each.get("message", "") for each in pod["status"].get("conditions", ()) if each["status"] == "False"]
            return f"\n{pod['metadata']['name']}: {'; '.join(filter(None, why))}"
    return ""


def log_lines(*argv: str) -> str:
    """Return the lines of a log; empty if the engine has removed it."""
    try:
        lines = kubectl(*argv).strip()
    except RollOutFailed:
        return ""
    return "" if lines.startswith("unable to retrieve container logs") else lines


def send(verb: str, item: Object) -> None:
    kubectl(verb, MANAGER, "--filename=-", text=json.dumps(item))


def patch(item: Object, change: Object) -> None:
    argv = ("patch", item["kind"], item["metadata"]["name"], *place(item), MANAGER, "--type=merge")
    kubectl(*argv, "--patch", json.dumps(change))


def kubectl(*argv: str, text: str | None = None, timeout: float = 120) -> str:
    """Return what kubectl prints.

    Raises:
        RollOutFailed: it fails, or does not end.
    """
    try:
        done = subprocess.run(
            [*KUBECTL, *argv], input=text, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise RollOutFailed(f"kubectl {argv[0]} did not end within {timeout:.0f} s") from None
    if done.returncode:
        raise RollOutFailed(f"kubectl {' '.join(argv[:3])}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
