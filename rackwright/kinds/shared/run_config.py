"""The configuration of a training run that has started: which changes of it are refused."""

import hashlib
import json
from collections.abc import Iterator

from rackwright.errors import Diagnostic
from rackwright.facts.run import RunFacts


def has_config(run: RunFacts, config: str) -> bool:
    """Return whether the outcome of *run* belongs to the declared configuration *config*."""
    return run.config == digest(config)


def digest(config: str) -> str:
    """Return the SHA-256 of a configuration, as facts have it."""
    return hashlib.sha256(config.encode()).hexdigest()


def refuse_another_config(where: str, run: RunFacts, config: str, go_on: bool) -> Iterator[Diagnostic]:
    """Yield refusals of another configuration for a finished run, and of another model for a started one.

    Args:
        config: The declared configuration, as JSON, which differs from that on the host.
        go_on: Whether the fleet lets a finished run continue with another configuration.
    """
    if run.outcome == "finished" and not go_on and not has_config(run, config):
        yield finished_refusal(where)
    wanted = json.loads(config)["model"]
    if run.model != wanted:
        keys = sorted(key for key in {*run.model, *wanted} if run.model.get(key) != wanted.get(key))
        problem = f"the declared model of the run has changed ({', '.join(keys)})"
        help = "Give the run a new name; the checkpoints of the old one stay"
        yield Diagnostic(where, problem, "the model of its checkpoints", help)


def finished_refusal(where: str) -> Diagnostic:
    """Return the refusal of another configuration for a finished run."""
    help = "Write `continue: true` to continue from its last checkpoint, or give the run a new name"
    problem = "the run has finished, and its declared configuration has changed"
    return Diagnostic(where, problem, "the configuration with which it finished", help)
