"""Commands about one host."""

import json
import subprocess
from typing import Annotated

import typer

from rackwright.cli import project
from rackwright.errors import StepFailed

app = typer.Typer(no_args_is_help=True, help="One host of a stack.")


@app.command()
def forget(
    stack: Annotated[str, typer.Argument(metavar="STACK")], host: Annotated[str, typer.Argument(metavar="HOST")]
) -> None:
    """Take a host out of a stack's state, touching nothing on it: for a machine that is gone for good."""
    root, environment = project.directory(), project.environment()

    def pulumi(*argv: str) -> str:
        done = subprocess.run(
            ["pulumi", *argv, "--stack", stack], cwd=root, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise StepFailed(f"stack {stack}", done.stderr.strip(), "its state can be changed", "Run it again")
        return done.stdout

    resources = json.loads(pulumi("stack", "export"))["deployment"].get("resources", [])
    names = [(urn, urn.rpartition("::")[2]) for urn in (item["urn"] for item in resources)]
    for urn, name in reversed(names):
        if name.split("/")[0] == host and not urn.endswith(f"$pulumi:providers:rackwright::{host}"):
            # what stands on it elsewhere, as the ways to it do, is taken over again by the next run
            pulumi("state", "delete", "--yes", "--force", "--target-dependents", urn)
            project.say(f"forgotten: {name}")
