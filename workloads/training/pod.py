"""Run the processes of one pod of a training run on Kubernetes.

    python -m workloads.training.pod RUN.json --first NUMBER

RUN.json is the plan of the run, whose hosts are its pods. The number of this pod is NUMBER plus the index that
Kubernetes gives it in its job. The pods watch each other: if one of them is lost, the others end, and Kubernetes starts
all again, from the last checkpoint. Exit status: 0 finished, 143 stopped after a checkpoint, 2 refused, 1 failed.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from workloads.command_line import as_command, new_parser
from workloads.training.hosts import (
    LaunchedProcesses,
    LaunchResult,
    check_host,
    code_digest,
    fingerprint,
    load_state,
    print_line,
    save_state,
)
from workloads.training.metrics import file_of
from workloads.training.peers import watch_peers
from workloads.training.plan import LaunchPlan, pod_command

INDEX = "JOB_COMPLETION_INDEX"
"""Variable of a pod of an indexed job. Source: Kubernetes, "Indexed Job for Parallel Processing"."""
STOPPED = 128 + signal.SIGTERM
"""Exit status after a stop: with 0 Kubernetes would take the pod for finished, and never start it again."""


def run(plan: LaunchPlan, number: int) -> int:
    """Start the processes of pod *number*, wait for them, and return the exit status."""
    check_host(plan)
    plan.out.mkdir(parents=True, exist_ok=True)
    # the directory of a pod does not outlive it
    kept = replace(plan, home=plan.out)
    attempt = int(load_state(kept).get("attempt", 0)) + 1
    if number == 0:
        save_state(kept, attempt=attempt, outcome=None)
        provenance = {**plan.provenance, "hosts": {plan.hosts[0].name: fingerprint()}, "code": code_digest()}
        (plan.out / "provenance.json").write_text(json.dumps(provenance, indent=2, sort_keys=True) + "\n")
    print_line(f"pod {number} of {plan.name}: {plan.processes} of {plan.world} processes")
    processes = LaunchedProcesses(plan, [pod_command(plan, number)])
    with watch_peers(plan, number, processes.end):
        result = processes.wait()
    if result.outcome == "finished" and not is_finished(plan, number):
        result = LaunchResult("stopped", 0, "as another pod of the run")
    if number == 0:
        save_state(kept, attempt=attempt, outcome=result.outcome, why=result.why)
    print_line(f"{plan.name}: {result.outcome}{f', {result.why}' if result.why else ''}")
    return STOPPED if result.outcome == "stopped" else result.status


def is_finished(plan: LaunchPlan, number: int) -> bool:
    """Return whether the processes of pod *number* have done all steps; they may have stopped for another pod."""
    lines = file_of(plan.out, str(number * plan.processes)).read_text().splitlines()
    return bool(lines) and json.loads(lines[-1]).get("event") == "finished"


def number_of(first: int, environment: Mapping[str, str]) -> int:
    return first + int(environment.get(INDEX, "0"))


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.training.pod", __doc__)
    parser.add_argument("plan", type=Path, metavar="RUN.json")
    parser.add_argument("--first", type=int, default=0, help="number of the first pod of the job (default 0)")
    args = parser.parse_args(argv)
    return run(LaunchPlan.read(args.plan), number_of(args.first, os.environ))


if __name__ == "__main__":
    sys.exit(main())
