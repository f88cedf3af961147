"""The logs and the end of the pods of a run or server, by kubectl on the control plane."""

from rackwright.errors import Diagnostic, StepFailed
from rackwright.hosts.pool import Hosts
from rackwright.kinds.pods import PodsSpec
from rackwright.kinds.pods.spec import WorkloadPart
from rackwright.progress import Progress

KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
STOP_MARGIN_SECONDS = 60
_DEACTIVATE = """\
set -eu
export KUBECONFIG=/etc/kubernetes/admin.conf
uid=$(kubectl --namespace "$1" get jobset "$2" --output "jsonpath={.metadata.uid}")
name=$(kubectl --namespace "$1" get workloads.kueue.x-k8s.io --selector "kueue.x-k8s.io/job-uid=$uid" --output name)
kubectl --namespace "$1" patch $name --field-manager=rackwright --type=merge --patch '{"spec": {"active": false}}'
"""
"""Script that lets Kueue suspend the job set $2 in namespace $1."""


def stream_logs(hosts: Hosts, spec: PodsSpec, lines: int, follow: bool, progress: Progress) -> None:
    """Pass the last *lines* of each pod to *progress*, and then each new line, if *follow*.

    Raises:
        StepFailed: There are no pods, or no logs.
    """
    workload = spec.workload
    selector = f"--selector=rackwright.local/{workload.sort}={workload.name}"
    argv = (*KUBECTL, "logs", f"--namespace={workload.team}", selector, "--prefix", f"--tail={lines}")
    options = ("--all-containers", "--max-log-requests=100", *(("--follow",) if follow else ()))
    done = hosts.connection(spec.host).run((*argv, *options), timeout=7 * 86400 if follow else 60, on_line=progress)
    if done.status:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        problem = f"kubectl shows no logs, and printed {last!r}"
        raise StepFailed(Diagnostic(workload.name, problem, help="Run `rackwright up`, which starts the pods"))


def stop(hosts: Hosts, spec: PodsSpec, progress: Progress) -> None:
    """Suspend the jobs of a run: its pods save and end. `up` lets them go on, or wait in their queue again.

    Raises:
        StepFailed: The API refuses, or pods do not end.
    """
    workload = spec.workload
    assert workload.run is not None
    seconds = workload.run.grace_seconds + STOP_MARGIN_SECONDS
    namespace = f"--namespace={workload.team}"
    options = (namespace, "--field-manager=rackwright", "--type=merge")
    selector = f"--selector=rackwright.local/run={workload.name}"
    commands = (
        *((*KUBECTL, "patch", name, *options, '--patch={"spec": {"suspend": true}}') for name in _jobs(workload)),
        # Kueue would start a suspended job set again; it suspends the one whose entry is not active
        *((("sh", "-c", _DEACTIVATE, "sh", workload.team, workload.name),) if workload.queue else ()),
        (*KUBECTL, "wait", "pods", namespace, selector, "--for=delete", f"--timeout={seconds}s"),
    )
    with hosts.lease(spec.host, spec.id, progress):
        progress(f"stopping {workload.name}, which saves first")
        for argv in commands:
            done = hosts.connection(spec.host).run(argv, timeout=seconds + STOP_MARGIN_SECONDS)
            if done.status:
                problem = f"`{' '.join(argv[3:6])}` failed, and printed {done.stderr.strip()!r}"
                help = "Look at the pods with `rackwright cluster exec`, then run the same command again"
                raise StepFailed(Diagnostic(workload.name, problem, help=help))


def _jobs(workload: WorkloadPart) -> tuple[str, ...]:
    """Return the jobs that are suspended by themselves; that of a queue is suspended by Kueue."""
    return () if workload.queue else workload.job_names
