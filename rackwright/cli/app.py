"""The application: all commands and their options."""

import json
import subprocess
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rackwright import __version__, locations, terminal
from rackwright.cli import (
    access,
    adopt,
    backup,
    discover,
    drive,
    gpu,
    host,
    init,
    lineage,
    project,
    run,
    server,
    twin,
    upgrade,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Private AI on bare metal: declare it, rehearse it on a virtual twin, provision and audit it.",
    epilog="Exit status: 0 as declared, 1 differs, 2 wrong or refused, 3 not reached or unknown, 4 a step failed.",
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
app.add_typer(init.app)
app.add_typer(lineage.app)
app.add_typer(upgrade.app)
StackName = Annotated[str, typer.Argument(metavar="STACK", help="Name of a stack: stacks/Pulumi.STACK.yaml.")]


class Format(StrEnum):
    table = "table"
    json = "json"


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and the commit.")] = False,
) -> None:
    if version:
        commit = locations.commit()
        terminal.show(f"rackwright {__version__} ({commit})" if commit else f"rackwright {__version__}")
        raise typer.Exit


class Tools(StrEnum):
    pulumi = "pulumi"
    workloads = "workloads"
    serving = "serving"
    tracking = "tracking"
    system = "system"


@app.command("toolchain")
def show_toolchain(
    tools: Annotated[
        Tools,
        typer.Argument(
            help="pulumi, the environment of the workloads, of serving alone or of the tracking server, or packages "
            "of this system that rackwright needs."
        ),
    ] = Tools.pulumi,
) -> None:
    """Find or install pulumi with its Python language host, or an environment, and print its path.

    With `system`, install missing packages of this system by apt-get, as root or by sudo; status 2 without either.
    """
    from rackwright import toolchain
    from rackwright.toolchain import workloads

    if tools is Tools.system:
        script = Path(toolchain.__file__).with_name("system.sh")
        raise typer.Exit(subprocess.run(["/bin/sh", str(script)]).returncode)
    if tools is Tools.workloads:
        environment = workloads.ensure(project.notify)
        if environment.without_horovod:
            project.notify(f"{environment.without_horovod}; torchrun takes its place")
        terminal.show(project.workloads_python(tools.value, environment.python))
        return
    if tools is not Tools.pulumi:
        ensure = workloads.serving if tools is Tools.serving else workloads.tracking
        terminal.show(project.workloads_python(tools.value, ensure(project.notify).python))
        return
    installation = toolchain.ensure(project.notify)
    terminal.show(f"pulumi {installation.version} ({installation.origin}) in {installation.directory}")


@app.command()
def env() -> None:
    """Print the environment variables for pulumi; use: eval "$(rackwright env)"."""
    import os

    from rackwright import toolchain

    root = project.directory()
    toolchain.prepare(root)
    terminal.show(toolchain.exports(toolchain.environment(root, toolchain.ensure(project.notify), os.environ)), end="")


@app.command()
def check(stack: StackName) -> None:
    """Check a stack's declaration and print all its errors. Needs no connection."""
    from rackwright.stack import declare

    loaded = project.stack(stack)
    for notice in loaded.notices:
        project.notify(f"note: {notice}")
    terminal.show(f"{stack}: {len(loaded.fleet.hosts)} hosts, {len(declare(loaded))} resources, no errors")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a fleet's YAML file, for editors."""
    from rackwright.fleet.load import schema

    terminal.show(json.dumps(schema(), indent=2))


@app.command()
def digests(stack: StackName) -> None:
    """Print keyed digests of values that depend on secrets, for an `audit --digests` without the passphrase."""
    from rackwright.audit.digests import compute_digests

    terminal.show(json.dumps(compute_digests(project.secrets(project.stack(stack))), indent=2))


@app.command()
def lock(
    stack: StackName,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; status 1 if the lock would change.")] = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Take the newest version of everything for which roles name none.")
    ] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch all locked files into the local repository.")] = False,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Like --fetch, and copy the repository to DIR, for a web server.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print for machines.")] = False,
) -> None:
    """Write exact versions and hashes of all packages, images and wheels to stacks/FLEET.lock.yaml. Touches no host."""
    from rackwright.cli.lock import run

    if check and (fetch or to):
        raise typer.BadParameter("--check writes nothing, so it excludes --fetch and --to", param_hint="--check")
    raise typer.Exit(run(project.stack(stack), check, upgrade, fetch or to is not None, to, as_json))


@app.command()
def inventory(
    stack: StackName,
    secrets: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write inventory.json with all secrets to this directory, which is in memory."
        ),
    ] = None,
) -> None:
    """Print an inventory with which plain ansible-playbook applies the same roles: playbooks/site.yml."""
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
        help="Overwrite a drive whose content cannot show a later write; the refusal prints it. For this command only.",
    ),
]


@app.command()
def preview(stack: StackName, consent: Consents = None) -> None:
    """Compare the hosts with the declaration, and show what `up` would do. Read-only."""
    from rackwright.cli.pulumi import run

    raise typer.Exit(run("preview", stack, consented=consent or ()))


@app.command()
def up(stack: StackName, consent: Consents = None) -> None:
    """Change the hosts to the declared state. Running it again is safe."""
    from rackwright.cli.pulumi import run

    raise typer.Exit(run("up", stack, consented=consent or ()))


@app.command()
def audit(
    stack: StackName,
    format: Annotated[Format, typer.Option(help="Output for people or for machines.")] = Format.table,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the facts of every host to this directory.")
    ] = None,
    snapshot: Annotated[Path | None, typer.Option(metavar="DIR", help="Use saved facts instead of the hosts.")] = None,
    as_of: Annotated[
        datetime | None, typer.Option(help="With --snapshot: use the newest facts up to this time, in UTC.")
    ] = None,
    digests: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The output of `rackwright digests`: for an audit without the passphrase."),
    ] = None,
    tracking: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar=project.TRACKING_URL,
            help="The MLflow server with which names of registered models are resolved.",
        ),
    ] = "",
) -> None:
    """Compare the declared state with the hosts. Read-only."""
    from rackwright.cli.audit import run

    raise typer.Exit(run(project.stack(stack), format.value, save, snapshot, as_of, digests, tracking))
