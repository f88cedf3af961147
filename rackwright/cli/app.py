"""The application: all commands and their options."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import __version__, locations, terminal
from rackwright.cli import (
    access,
    adopt,
    alert,
    audit,
    backup,
    cluster,
    compare,
    dashboards,
    discover,
    drive,
    explain,
    federation,
    gpu,
    host,
    init,
    journal,
    lineage,
    log,
    mask,
    privacy,
    project,
    quarantine,
    rebuild,
    registry,
    restore_test,
    run,
    secret,
    server,
    tier,
    tier_bench,
    toolchain,
    twin,
    upgrade,
)
from rackwright.cli.arguments import CHANGE, CHECK, DECLARE, MODELS, OPERATE, REHEARSE, SET_UP, AsJson, StackName
from rackwright.cli.paragraphs import STATUSES, add_epilogs, join_lines
from rackwright.errors import quantity

if TYPE_CHECKING:
    from rackwright.cli.json_types import ComputerReport, DeclarationCheck

app = typer.Typer(
    no_args_is_help=True,
    # the panels of a narrow terminal would cut words of options; plain paragraphs are wrapped
    rich_markup_mode="rich" if shutil.get_terminal_size().columns >= terminal.NARROW else None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Private AI on bare metal: declare it, rehearse it on a virtual twin, provision and audit it.",
    epilog=STATUSES,
)
app.add_typer(twin.app, name="twin", rich_help_panel=REHEARSE)
app.add_typer(host.app, name="host", rich_help_panel=OPERATE)
app.add_typer(drive.app, name="drive", rich_help_panel=OPERATE)
app.add_typer(gpu.app, name="gpu", rich_help_panel=OPERATE)
app.add_typer(alert.app, name="alert", rich_help_panel=OPERATE)
app.add_typer(quarantine.app, name="quarantine", rich_help_panel=OPERATE)
app.add_typer(cluster.app, name="cluster", rich_help_panel=OPERATE)
app.add_typer(secret.app, name="secret", rich_help_panel=DECLARE)
app.add_typer(registry.app, name="registry", rich_help_panel=OPERATE)
app.add_typer(log.app, name="log", rich_help_panel=CHECK)
app.add_typer(run.app, name="run", rich_help_panel=MODELS)
app.add_typer(privacy.app, name="privacy", rich_help_panel=MODELS)
app.add_typer(federation.app, name="federation", rich_help_panel=MODELS)
app.add_typer(server.app, name="server", rich_help_panel=MODELS)
tier.app.add_typer(restore_test.app)
tier.app.add_typer(tier_bench.app)
app.add_typer(tier.app, name="tier", rich_help_panel=OPERATE)
app.add_typer(access.app)
app.add_typer(adopt.app)
app.add_typer(audit.app)
app.add_typer(backup.app)
app.add_typer(compare.app)
app.add_typer(dashboards.app)
app.add_typer(discover.app)
app.add_typer(explain.app)
app.add_typer(init.app)
app.add_typer(journal.app)
app.add_typer(lineage.app)
app.add_typer(mask.app)
app.add_typer(rebuild.app)
app.add_typer(toolchain.app)
app.add_typer(upgrade.app)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and the commit.")] = False,
) -> None:
    if version:
        commit = locations.commit()
        terminal.show(f"rackwright {__version__} ({commit})" if commit else f"rackwright {__version__}")
        raise typer.Exit


@app.command(rich_help_panel=SET_UP)
def doctor(as_json: AsJson = False) -> None:
    """Show what this computer has and lacks for each feature, with the command that mends it. Changes nothing.

    Exit status: 0 nothing is missing, 1 something is.
    """
    from rackwright.cli.doctor import checks

    found = checks()
    if as_json:
        computer: ComputerReport = {"checks": found}
        terminal.show_json(computer)
    else:
        for check in found:
            terminal.show(f"{check.state:<8} {check.feature}: {check.details}")
            if check.help:
                terminal.show(f"{'':<8}   help: {check.help}")
    raise typer.Exit(any(check.state == "missing" for check in found))


@app.command(rich_help_panel=DECLARE)
def check(stack: StackName, as_json: AsJson = False) -> None:
    """Check a stack's declaration and print all its errors. Needs no connection."""
    from rackwright.stack import feasible
    from rackwright.stack.missing_members import missing_members
    from rackwright.stack.missing_stacks import missing_stacks

    loaded = project.stack(stack)
    if loaded.fleet.uses and not loaded.is_whole:
        feasible.check(project.stack(stack, whole=True))  # a rack has what this twin leaves out
    hosts, resources = len(loaded.fleet.hosts), len(feasible.check(loaded))
    notices = [*loaded.notices, *missing_stacks(loaded), *missing_members(loaded)]
    if loaded.fleet.object_stores:
        from rackwright.stack.store_trust import trust_notices

        notices += trust_notices(loaded.fleet)
    if loaded.fleet.servers:
        from rackwright.stack.missing_models import missing_models
        from rackwright.stack.servers import server_notes

        notices += [*missing_models(loaded), *server_notes(loaded)]
    if as_json:
        result: DeclarationCheck = {
            "stack": stack,
            "hosts": hosts,
            "resources": resources,
            "notices": notices,
        }
        terminal.show_json(result)
        return
    for notice in notices:
        project.notify(f"note: {notice}")
    terminal.show(f"{stack}: {quantity(hosts, 'host')}, {quantity(resources, 'resource')}, no errors")


def _complete_output(incomplete: str) -> list[str]:
    from rackwright.cli.json_outputs import OUTPUTS

    return [name for name in OUTPUTS if name.startswith(incomplete)]


@app.command(rich_help_panel=DECLARE)
def schema(
    output: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help='Print the schema of what this command prints with --json, for example "gpu top".',
            autocompletion=_complete_output,
        ),
    ] = None,
    policy: Annotated[bool, typer.Option("--policy", help="Print the schema of a masking policy.")] = False,
) -> None:
    """Print the JSON Schema of a fleet's or a masking policy's YAML file, for editors, or of a command's JSON.

    Exit status: 2 no such command prints JSON.
    """
    if policy:
        from rackwright.masking.policy import json_schema as policy_schema

        terminal.show(json.dumps(policy_schema(), indent=2))
        return
    if output is None:
        terminal.show(project.fleet_schema(), end="")
        return
    from rackwright.cli.json_outputs import json_schema

    terminal.show(json.dumps(json_schema(output), indent=2))


@app.command(rich_help_panel=DECLARE)
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
    as_json: AsJson = False,
) -> None:
    """Write exact versions and hashes of all packages, images and wheels to stacks/FLEET.lock.yaml. Touches no host."""
    from rackwright.cli.lock import run

    if check and (fetch or to):
        raise typer.BadParameter("--check writes nothing, so it excludes --fetch and --to", param_hint="--check")
    raise typer.Exit(run(project.stack(stack), check, upgrade, fetch or to is not None, to, as_json))


@app.command(rich_help_panel=CHANGE)
def inventory(
    stack: StackName,
    secrets: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write inventory.yml with all secrets to this directory, which is in memory."),
    ] = None,
) -> None:
    """Print an inventory with which plain ansible-playbook applies the same roles: playbooks/site.yml."""
    from rackwright.cli import inventory

    if secrets is None:
        terminal.show(inventory.public(project.stack(stack)).rstrip())
    else:
        from rackwright.cli import recording

        loaded = project.stack(stack)
        planned = [recording.change(str(secrets), "write the inventory with secrets")]
        with recording.record("inventory", loaded, planned=planned):
            terminal.show(inventory.write(loaded, secrets))


Consents = Annotated[
    list[str] | None,
    typer.Option(
        "--consent",
        metavar="SERIAL=CONTENT",
        help="Overwrite a drive whose content cannot show a later write; the refusal prints it. For this command only.",
    ),
]


Yes = Annotated[bool, typer.Option("--yes", help="Change the hosts without a question.")]


Steps = Annotated[bool, typer.Option("--steps", help="List the steps of each resource, and what its drives carry.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="HOST", help="Compare and change this host alone; several are possible."),
]
Diff = Annotated[bool, typer.Option("--diff", help="Show how the texts of files change.")]


@app.command(rich_help_panel=CHANGE)
def preview(
    stack: StackName,
    consent: Consents = None,
    steps: Steps = False,
    diff: Diff = False,
    as_json: AsJson = False,
    save_plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the plan to this file, for `up --plan`.")
    ] = None,
    host: Hosts = None,
) -> None:
    """Compare the hosts with the declaration, and show what `up` would do. Read-only."""
    from rackwright.cli.pulumi import Form, Selection, preview

    selection = Selection(host or (), consent or ())
    raise typer.Exit(preview(stack, selection, Form(steps, diff, as_json), save_plan))


@app.command(rich_help_panel=CHANGE)
def up(
    stack: StackName,
    consent: Consents = None,
    yes: Yes = False,
    steps: Steps = False,
    diff: Diff = False,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Run the steps of this saved plan and no others, without a question."),
    ] = None,
    host: Hosts = None,
) -> None:
    """Change the hosts to the declared state, after a preview and a question. Running it again is safe."""
    from rackwright.cli.pulumi import Form, Selection, up

    selection = Selection(host or (), consent or ())
    raise typer.Exit(up(stack, selection, Form(steps, diff), yes, plan))


@app.command(rich_help_panel=CHANGE)
def destroy(stack: StackName, yes: Yes = False) -> None:
    """Remove the stack's resources from the hosts, after a summary of what is deleted and what stays, and a question.

    A tier is deleted only if its last `up` stored `destroy: allowed`. Hosts, their logins and packages stay.
    """
    from rackwright.cli.destroy import run

    raise typer.Exit(run(stack, yes))


@app.command(rich_help_panel=CHECK)
def stacks(as_json: AsJson = False) -> None:
    """List the stacks of this project with their targets and fleets. Needs no connection."""
    from rackwright.cli.stacks import show_stacks

    raise typer.Exit(show_stacks(as_json))


@app.command(rich_help_panel=CHECK)
def status(
    stack: StackName,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show the state again and again, until Ctrl-C.")] = False,
    seconds: Annotated[float, typer.Option(min=1, help="Time between two looks of --watch.")] = 10,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write an HTML page with the racks and their hosts.")
    ] = None,
) -> None:
    """Show the last change of a stack, and the state of hosts, tiers, GPUs, runs, servers and alerts. Read-only.

    A host is as declared, different, or not reached. `audit` says what differs.

    Exit status: 0 as declared, 1 something differs, 3 something is unknown.
    """
    from rackwright.cli.status import show

    raise typer.Exit(show(stack, as_json, watch, seconds, page))


join_lines(app)
add_epilogs(app)
