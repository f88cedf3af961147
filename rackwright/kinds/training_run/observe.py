"""The observation of a run's properties, and its report."""

from typing import Any

from rackwright.core.contract import Absent, Claim, Value
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared import firewall, gpu_assignment, loaded, observation
from rackwright.kinds.training_run.spec import TrainingSpec

CHECKPOINTS = "checkpoints"
LATE = 3
"""Intervals after which a checkpoint counts as missing; a slow tier may take longer than one for it."""
RUNNING_STATES = firewall.RUNNING_STATES


def observe_property(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "run" if name == CHECKPOINTS:
            return checkpoints(facts, key)
        case "run" | "door":
            return outcome(facts, key, on_worker=sort == "door")
        case "nftables":
            return firewall.observe(facts, key, claim)
        case "package":
            return observation.package(facts, key, name)
        case "gpu_assignment":
            return gpu_assignment.observe(facts, key, name)
        case loaded.SORT:
            return loaded.observe(facts, key, name)
        case _:
            return observation.service(facts, sort, key, name)


def outcome(facts: Facts, name: str, on_worker: bool) -> Value:
    """Return the outcome of the run *name* on this host.

    On the launcher host: running, finished, stopped or failed. On a worker the outcome is that of its sshd: open,
    closed, finished or failed. The outcome in the run's own files counts only while the unit does not run.
    """
    unit = facts.unit(f"training-{name}-door.service" if on_worker else f"training-{name}.service")
    run = facts.run(name)
    if unit is None or run is None:
        return Absent()
    if run.outcome == "finished":
        return "finished"
    if unit.active in RUNNING_STATES:
        return "open" if on_worker else "running"
    if unit.active == "failed":
        return "failed"
    return "closed" if on_worker else run.outcome or "stopped"


def checkpoints(facts: Facts, name: str) -> Value:
    """Return whether a running run has the checkpoints of the steps that it reports: ``kept`` or ``missing``.

    The directory exists before the first step. The newest checkpoints may still be on their way to the tier.
    """
    run = facts.run(name)
    if run is None or outcome(facts, name, on_worker=False) != "running":
        return "kept"
    steps = [values["step"] for values in run.ranks.values() if "step" in values]
    if not steps:
        return "kept"
    if not run.has_checkpoints:
        return "missing"
    due = (int(max(steps)) // max(run.every_steps, 1) - LATE) * run.every_steps
    return "kept" if due <= 0 or (run.checkpoint or 0) >= due else "missing"


def is_finished(spec: TrainingSpec, facts: Facts) -> bool:
    run = facts.run(spec.name)
    return run is not None and run.outcome == "finished"


def report(spec: TrainingSpec, facts: Facts) -> dict[str, Any]:
    """Return the progress on this host; on the launcher host, step, loss, time left and checkpoint of the whole run."""
    try:
        run = facts.run(spec.name)
        if run is None:
            return {}
        on_worker = spec.host != spec.launcher_host.name
        report: dict[str, Any] = {"outcome": _format_outcome(outcome(facts, spec.name, on_worker))}
        report["ranks"] = {name: int(values["step"]) for name, values in run.ranks.items() if "step" in values}
        if on_worker:
            return report
        newest = max(run.ranks.values(), key=lambda each: each.get("time", 0), default={})
        report |= {"steps": run.steps, "checkpoint": run.checkpoint, "attempt": run.attempt}
        report |= {"why": run.why} if run.why and run.outcome == "failed" else {}
        report |= {"tracking": run.page} if spec.tracking_server is not None else {}
        if "step" in newest:
            report |= {"step": int(newest["step"])}
            report |= {"loss": round(newest["loss"], 6)} if "loss" in newest else {}
            report["eta_seconds"] = round((run.steps - newest["step"]) * newest.get("step_seconds", 0))
        return report
    except UnknownFact as reason:
        return {"unknown": str(reason)}


def _format_outcome(value: Value) -> str:
    return value if isinstance(value, str) else "absent"
