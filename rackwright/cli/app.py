"""The application: all commands and their options."""

import json
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import __version__, locations, terminal
from rackwright.cli import (
    access,
    adopt,
    audit,
    backup,
    cluster,
    compare,
    discover,
    drive,
    explain,
    gpu,
    host,
    init,
    lineage,
    log,
    project,
    rebuild,
    registry,
    restore_test,
    run,
    server,
    tier,
    tier_bench,
    twin,
    upgrade,
)
from rackwright.cli.arguments import CHANGE, CHECK, DECLARE, MODELS, OPERATE, REHEARSE, SET_UP, AsJson, StackName
from rackwright.cli.paragraphs import join_lines

if TYPE_CHECKING:
    from rackwright.cli.json_types import ComputerReport, DeclarationCheck

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Private AI on bare metal: declare it, rehearse it on a virtual twin, provision and audit it.",
    epilog="Exit status: 0 as declared, 1 differs, 2 wrong or refused, 3 not reached or unknown, 4 a step failed.",
)
app.add_typer(twin.app, name="twin", rich_help_panel=REHEARSE)
app.add_typer(host.app, name="host", rich_help_panel=OPERATE)
app.add_typer(drive.app, name="drive", rich_help_panel=OPERATE)
app.add_typer(gpu.app, name="gpu", rich_help_panel=OPERATE)
app.add_typer(cluster.app, name="cluster", rich_help_panel=OPERATE)
app.add_typer(registry.app, name="registry", rich_help_panel=OPERATE)
app.add_typer(log.app, name="log", rich_help_panel=CHECK)
app.add_typer(run.app, name="run", rich_help_panel=MODELS)
app.add_typer(server.app, name="server", rich_help_panel=MODELS)
tier.app.add_typer(restore_test.app)
tier.app.add_typer(tier_bench.app)
app.add_typer(tier.app, name="tier", rich_help_panel=OPERATE)
app.add_typer(access.app)
app.add_typer(adopt.app)
app.add_typer(audit.app)
app.add_typer(backup.app)
app.add_typer(compare.app)
app.add_typer(discover.app)
app.add_typer(explain.app)
app.add_typer(init.app)
app.add_typer(lineage.app)
app.add_typer(rebuild.app)
app.add_typer(upgrade.app)


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
    vllm = "vllm"
    evaluation = "evaluation"
    tracking = "tracking"
    kubernetes = "kubernetes"
    kubernetes_previous = "kubernetes-previous"
    kubernetes_queue = "kubernetes-queue"
    kubernetes_conformance = "kubernetes-conformance"
    pulumi_kubernetes = "pulumi-kubernetes"
    registry = "registry"
    system = "system"


@app.command("toolchain", rich_help_panel=SET_UP)
def show_toolchain(
    tools: Annotated[
        Tools,
        typer.Argument(
            help="pulumi, the environment of the workloads, of serving alone, of vLLM on CPUs, of the evaluation "
            "or of the tracking server, the packages of a Kubernetes cluster, its conformance tests, the plugin of "
            "pulumi-kubernetes, the package of role registry, or packages of this system that rackwright needs."
        ),
    ] = Tools.pulumi,
) -> None:
    """Find or install pulumi with its Python language host, or an environment, and print its path.

    With `system`, install missing packages of this system by apt-get, as root or by sudo; status 2 without either.
    With `kubernetes`, build its programs from Go modules, for racks without its vendor's repository: it takes 11
    minutes on two cores, 9 GB of temporary files, and 1 GB that stays. `lock --fetch` takes the packages from there.
    With `kubernetes-previous`, build the minor version before as well, for clusters that are upgraded later.
    With `kubernetes-queue`, build Kueue and JobSet as well, for clusters with `queue: true`.
    With `kubernetes-conformance`, build Kubernetes' own conformance tests, and the images of their pods.
    With `pulumi-kubernetes`, build its plugin: five minutes of one processor.
    With `registry`, build the registry of images of role registry, which `lock --fetch` takes from there.
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
    if tools in (Tools.kubernetes, Tools.kubernetes_previous, Tools.kubernetes_queue):
        _show_kubernetes(tools)
        return
    if tools is Tools.kubernetes_conformance:
        from rackwright.toolchain import conformance

        directory = conformance.ensure(project.notify)
        terminal.show(f"conformance tests of Kubernetes: {directory / conformance.PROGRAM}")
        terminal.show(f"images of their pods: {directory / conformance.ARCHIVE}")
        return
    if tools is Tools.pulumi_kubernetes:
        from rackwright.toolchain import pulumi_kubernetes

        plugin = pulumi_kubernetes.ensure(project.notify)
        terminal.show(f"plugin of pulumi-kubernetes {pulumi_kubernetes.VERSION} in {plugin}")
        return
    if tools is Tools.registry:
        registry.show_package()
        return
    if tools is not Tools.pulumi:
        ensure = {
            Tools.serving: workloads.serving,
            Tools.vllm: workloads.vllm,
            Tools.evaluation: workloads.evaluation,
            Tools.tracking: workloads.tracking,
        }
        terminal.show(project.workloads_python(tools.value, ensure[tools](project.notify).python))
        return
    installation = toolchain.ensure(project.notify)
    terminal.show(f"pulumi {installation.version} ({installation.origin}) in {installation.directory}")


def _show_kubernetes(tools: Tools) -> None:
    from rackwright.lock import store
    from rackwright.toolchain import kubernetes_queue
    from rackwright.toolchain.apt import SUITES
    from rackwright.toolchain.kubernetes import pins, programs

    text, ensure = {
        Tools.kubernetes: (f"Kubernetes {pins.KUBERNETES}", programs.ensure),
        Tools.kubernetes_previous: (f"Kubernetes {pins.PREVIOUS}", programs.ensure_previous),
        Tools.kubernetes_queue: (f"Kueue {kubernetes_queue.KUEUE}", kubernetes_queue.ensure),
    }[tools]
    directory = ensure(project.notify)
    packages = sorted(directory.glob("*.deb"))
    for system in SUITES:
        store.add(packages, system)
    terminal.show(f"{text} in {directory}: {len(packages)} packages for {', '.join(SUITES)}")


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


@app.command(rich_help_panel=SET_UP)
def env() -> None:
    """Print the environment variables for pulumi; use: eval "$(rackwright env)"."""
    import os

    from rackwright import toolchain

    root = project.directory()
    toolchain.prepare(root)
    terminal.show(toolchain.exports(toolchain.environment(root, toolchain.ensure(project.notify), os.environ)), end="")


@app.command(rich_help_panel=DECLARE)
def check(stack: StackName, as_json: AsJson = False) -> None:
    """Check a stack's declaration and print all its errors. Needs no connection."""
    from rackwright.stack import declare

    loaded = project.stack(stack)
    hosts, resources = len(loaded.fleet.hosts), len(declare(loaded))
    if as_json:
        result: DeclarationCheck = {
            "stack": stack,
            "hosts": hosts,
            "resources": resources,
            "notices": list(loaded.notices),
        }
        terminal.show_json(result)
        return
    for notice in loaded.notices:
        project.notify(f"note: {notice}")
    terminal.show(f"{stack}: {hosts} hosts, {resources} resources, no errors")


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
) -> None:
    """Print the JSON Schema of a fleet's YAML file, for editors, or of the JSON that a command prints.

    Exit status: 2 no such command prints JSON.
    """
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
def status(stack: StackName, as_json: AsJson = False) -> None:
    """Show the last change of a stack, and one line per host: as declared, different, or not reached. Read-only."""
    from rackwright.cli.stacks import show_status

    raise typer.Exit(show_status(stack, as_json))


join_lines(app)
