"""The logs and the end of the pods of a run or server, by kubectl on the control plane."""

from rackwright.errors import Diagnostic, StepFailed
from rackwright.hosts.pool import Hosts
from rackwright.kinds.pods import PodsSpec
from rackwright.progress import Progress

KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
STOP_MARGIN_SECONDS = 60


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
    """Suspend the jobs of a run: its pods save and end. `up` lets them go on.

    Raises:
        StepFailed: The API refuses, or pods do not end.
    """
    workload = spec.workload
    assert workload.run is not None
    seconds = workload.run.grace_seconds + STOP_MARGIN_SECONDS
    namespace = f"--namespace={workload.team}"
    patch = ("--field-manager=rackwright", "--type=merge", '--patch={"spec": {"suspend": true}}')
    selector = f"--selector=rackwright.local/run={workload.name}"
    commands = (
        *((*KUBECTL, "patch", "job", name, namespace, *patch) for name in workload.job_names),
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
