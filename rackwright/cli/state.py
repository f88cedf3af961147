"""A stack's state: the resources that pulumi has recorded, and commands on them."""

import json
import shlex
import subprocess
from functools import cache

from rackwright.cli import project
from rackwright.cli.killed import killed_error
from rackwright.errors import Diagnostic, StepFailed


def pulumi(stack: str, *argv: str) -> str:
    """Run pulumi on *stack*, and return its output.

    Raises:
        StepFailed: Pulumi failed; the error has its output, or the signal that killed it.
    """
    command = ["pulumi", *argv, "--stack", stack]
    done = subprocess.run(
        command, cwd=project.directory(), env=_environment(stack), capture_output=True, text=True, check=False
    )
    if done.returncode < 0:
        raise killed_error(command[:2], -done.returncode, stack)
    if done.returncode:
        output = " ".join((done.stderr.strip() or done.stdout).split())
        problem = f'`{shlex.join(command)}` failed with status {done.returncode}, and printed "{output}"'
        help = "Correct the reported error, and run the command again"
        raise StepFailed(Diagnostic(f"stack {stack}", problem, help=help))
    return done.stdout


def urns(stack: str) -> list[str]:
    """Return the URNs of all resources, each after those that it depends on."""
    exported = json.loads(pulumi(stack, "stack", "export"))
    return [resource["urn"] for resource in (exported["deployment"] or {}).get("resources", [])]


@cache
def _environment(stack: str) -> dict[str, str]:
    """Return pulumi's environment; the cache checks the toolchain once for all commands."""
    return project.environment(stack)
