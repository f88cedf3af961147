"""A stack's state: the resources that pulumi has recorded, and commands on them."""

import json
import subprocess
from functools import cache

from rackwright.cli import project
from rackwright.errors import Diagnostic, StepFailed


def pulumi(stack: str, *argv: str) -> str:
    """Run pulumi on *stack*, and return its output.

    Raises:
        StepFailed: Pulumi failed; the error has its output.
    """
    command = ["pulumi", *argv, "--stack", stack]
    done = subprocess.run(
        command, cwd=project.directory(), env=_environment(stack), capture_output=True, text=True, check=False
    )
    if done.returncode:
        message = done.stderr.strip() or done.stdout.strip()
        raise StepFailed(Diagnostic(f"stack {stack}", message, "its state can be changed", "Run it again"))
    return done.stdout


def urns(stack: str) -> list[str]:
    """Return the URNs of all resources, each after those that it depends on."""
    exported = json.loads(pulumi(stack, "stack", "export"))
    return [resource["urn"] for resource in (exported["deployment"] or {}).get("resources", [])]


@cache
def _environment(stack: str) -> dict[str, str]:
    """Return pulumi's environment; the cache checks the toolchain once for all commands."""
    return project.environment(stack)
