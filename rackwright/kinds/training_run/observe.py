"""Where a run's properties are found in the facts."""

import hashlib
from typing import Any

from rackwright.core.contract import Absent, Value
from rackwright.facts.facts import Facts
from rackwright.facts.run import Run
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared import observation
from rackwright.kinds.training_run.spec import TrainingSpec

RUNNING = ("active", "activating", "reloading", "deactivating")


def look(facts: Facts, sort: str, key: str, name: str, claim: object) -> Value:
    match sort:
        case "run" | "door":
            return outcome(facts, key, door=sort == "door")
        case _:
            return observation.service(facts, sort, key, name)


def outcome(facts: Facts, name: str, door: bool) -> Value:
    """Return how it is with the run *name* on this host: running, finished, stopped, failed; of a door open or closed.

    What its processes have written counts only while its unit does not run.
    """
    unit = facts.unit(f"training-{name}-door.service" if door else f"training-{name}.service")
    run = facts.run(name)
    if unit is None or run is None:
        return Absent()
    if run.outcome == "finished":
        return "finished"
    if unit.active in RUNNING:
        return "open" if door else "running"
    if unit.active == "failed":
        return "failed"
    return "closed" if door else run.outcome or "stopped"


def finished(spec: TrainingSpec, facts: Facts) -> bool:
    run = facts.run(spec.name)
    return run is not None and run.outcome == "finished"


def same(spec: TrainingSpec, run: Run) -> bool:
    """Return whether what *run* says of its end is about the configuration that is declared."""
    return run.config == hashlib.sha256(spec.config.encode()).hexdigest()


def report(spec: TrainingSpec, facts: Facts) -> dict[str, Any]:
    """Return how far the run is on this host: of the chief the whole run's step, loss, time left, last checkpoint."""
    try:
        run = facts.run(spec.name)
        if run is None:
            return {}
        door = spec.host != spec.chief.name
        told: dict[str, Any] = {"outcome": _said(outcome(facts, spec.name, door))}
        told["ranks"] = {name: int(values["step"]) for name, values in run.ranks.items() if "step" in values}
        if door:
            return told
        newest = max(run.ranks.values(), key=lambda each: each.get("time", 0), default={})
        told |= {"steps": run.steps, "checkpoint": run.checkpoint, "attempt": run.attempt}
        told |= {"why": run.why} if run.why and run.outcome == "failed" else {}
        told |= {"tracking": run.page} if spec.tracking is not None else {}
        if "step" in newest:
            told |= {"step": int(newest["step"]), "loss": round(newest["loss"], 6)}
            told["eta_seconds"] = round((run.steps - newest["step"]) * newest.get("step_seconds", 0))
        return told
    except UnknownFact as reason:
        return {"unknown": str(reason)}


def _said(value: Value) -> str:
    return value if isinstance(value, str) else "absent"
