"""Every command in one place."""

import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rackwright import __version__, terminal
from rackwright.cli import access, adopt, backup, discover, drive, gpu, host, lineage, project, run, server, twin

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Private AI on bare metal: declared, rehearsed on a virtual twin, provisioned and audited.",
    epilog="Exit status: 0 as wanted, 1 differs, 2 wrong or refused, 3 not reached or unknown, 4 a step failed.",
)
app.add_typer(twin.app, name="twin")
app.add_typer(host.app, name="host")
app.add_typer(drive.app, name="drive")
app.add_typer(gpu.app, name="gpu")
app.add_typer(run.app, name="run")
app.add_typer(server.app, name="server")
app.add_typer(access.app)
app.add_typer(adopt.app)
app.add_typer(backup.app)
app.add_typer(discover.app)
app.add_typer(lineage.app)
StackName = Annotated[str, typer.Argument(metavar="STACK", help="Name of a stack: stacks/Pulumi.STACK.yaml.")]


class Format(StrEnum):
    table = "table"
    json = "json"


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        terminal.show(f"rackwright {__version__}")
        raise typer.Exit


class Tools(StrEnum):
    pulumi = "pulumi"
    workloads = "workloads"
    serving = "serving"
    tracking = "tracking"


@app.command("toolchain")
def show_toolchain(
    tools: Annotated[
        Tools,
        typer.Argument(
            help="pulumi; or the Python of an environment: of the workloads, of serving alone, of the tracking server."
        ),
    ] = Tools.pulumi,
) -> None:
    """Find or make pulumi and its Python language host, and say which was taken; or what the workloads run in."""
    from rackwright import toolchain
    from rackwright.toolchain import workloads

    if tools is Tools.workloads:
        environment = workloads.ensure(project.say)
        if environment.without_horovod:
            project.say(f"{environment.without_horovod}; torchrun takes its place")
        terminal.show(environment.python)
        return
    if tools is not Tools.pulumi:
        ensure = workloads.serving if tools is Tools.serving else workloads.tracking
        terminal.show(ensure(project.say).python)
        return
    taken = toolchain.ensure(project.say)
    terminal.show(f"pulumi {taken.version} ({taken.origin}) in {taken.directory}")


@app.command()
def env() -> None:
    """Print the environment for pulumi: eval "$(rackwright env)"."""
    import os

    from rackwright import toolchain

    root = project.directory()
    toolchain.prepare(root)
    terminal.show(toolchain.exports(toolchain.environment(root, toolchain.ensure(project.say), os.environ)), end="")


@app.command()
def check(stack: StackName) -> None:
    """Check a stack's declaration, without a connection: all errors at once."""
    from rackwright.stack import declare

    loaded = project.stack(stack)
    for notice in loaded.notices:
        project.say(f"note: {notice}")
    terminal.show(f"{stack}: {len(loaded.fleet.hosts)} hosts, {len(declare(loaded))} resources, no errors")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a fleet's YAML file, for editors."""
    from rackwright.fleet.load import schema

    terminal.show(json.dumps(schema(), indent=2))


@app.command()
def digests(stack: StackName) -> None:
    """Print keyed digests of values that depend on secrets, for an `audit --digests` without the passphrase."""
    from rackwright.audit.digests import tell

    terminal.show(json.dumps(tell(project.secrets(project.stack(stack))), indent=2))


@app.command()
def lock(
    stack: StackName,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; status 1 where something would change.")
    ] = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Newest of all that roles do not promise exactly.")
    ] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Keep all of it in the local repository.")] = False,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="The same, and for a web server there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Write exact versions and hashes of all that the fleet is made of to stacks/FLEET.lock.yaml; touches no host."""
    from rackwright.cli.lock import run

    if check and (fetch or to):
        raise typer.BadParameter("it writes nothing, so --fetch and --to are not for it", param_hint="--check")
    raise typer.Exit(run(project.stack(stack), check, upgrade, fetch or to is not None, to, as_json))


@app.command()
def inventory(
    stack: StackName,
    secrets: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write inventory.json with all secrets there: a directory in memory."),
    ] = None,
) -> None:
    """Print the inventory with which plain ansible-playbook plays the same roles: playbooks/site.yml."""
    from rackwright.cli import inventory

    if secrets is None:
        terminal.show(json.dumps(inventory.public(project.stack(stack)), indent=2))
    else:
        terminal.show(inventory.write(project.stack(stack), secrets))


Consents = Annotated[
    list[str] | None,
    typer.Option(
        "--consent",
        metavar="SERIAL=CONTENT",
        help="Overwrite a drive whose data show no later write, as the refusal prints it. For this command only.",
    ),
]


@app.command()
def preview(stack: StackName, consent: Consents = None) -> None:
    """Look at the hosts and show what `up` would do. Changes nothing."""
    from rackwright.cli.pulumi import run

    raise typer.Exit(run("preview", stack, given_up=consent or ()))


@app.command()
def up(stack: StackName, consent: Consents = None) -> None:
    """Make the hosts as declared. Running it again is safe."""
    from rackwright.cli.pulumi import run

    raise typer.Exit(run("up", stack, given_up=consent or ()))


@app.command()
def audit(
    stack: StackName,
    format: Annotated[Format, typer.Option(help="For people or for machines.")] = Format.table,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the facts of every host there.")] = None,
    snapshot: Annotated[Path | None, typer.Option(metavar="DIR", help="Use saved facts; ask no host.")] = None,
    as_of: Annotated[datetime | None, typer.Option(help="With --snapshot: the newest not after this, UTC.")] = None,
    digests: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The output of `rackwright digests`: for an audit without the passphrase."),
    ] = None,
    tracking: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar=project.TRACKING_URL,
            help="The MLflow server of registered models, whose names are looked up.",
        ),
    ] = "",
) -> None:
    """Compare the declared state with the hosts. Read-only."""
    from rackwright.cli.audit import run

    raise typer.Exit(run(project.stack(stack), format.value, save, snapshot, as_of, digests, tracking))
