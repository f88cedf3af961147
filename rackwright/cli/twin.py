"""The commands for a twin."""

import os
import subprocess
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, HostName, StackName
from rackwright.cli.ending import StopSignal
from rackwright.errors import DeclarationError, Diagnostic, StepFailed, command
from rackwright.locations import stack_names

if TYPE_CHECKING:
    from rackwright.cli.json_types import TwinStatus
    from rackwright.stack import Stack
    from rackwright.twin import Twin

app = typer.Typer(no_args_is_help=True, help="The virtual twin of a rack, on this computer.")
NO_STATE = "no stack named"
"""Part of pulumi's message about a stack that has no state."""


class Fault(StrEnum):
    pull = "pull"
    insert = "insert"
    power_off = "power-off"
    power_on = "power-on"
    reset = "reset"
    link_down = "link-down"
    link_up = "link-up"
    mtu = "mtu"
    drive_read_errors = "drive-read-errors"
    drive_write_errors = "drive-write-errors"
    drive_slow = "drive-slow"
    drive_ignore_discard = "drive-ignore-discard"
    drive_failing = "drive-failing"
    drive_clear = "drive-clear"
    disk_full = "disk-full"
    disk_free = "disk-free"
    clock = "clock"
    component_lost = "component-lost"
    component_back = "component-back"
    certificates = "certificates"
    gpu_lost = "gpu-lost"
    gpu_xid = "gpu-xid"
    gpu_ecc = "gpu-ecc"
    gpu_hot = "gpu-hot"
    gpu_busy = "gpu-busy"
    gpu_clear = "gpu-clear"


def _twin(name: str) -> "Twin":
    return build(project.stack(name))


def build(stack: "Stack") -> "Twin":
    """Return the twin that is the target of *stack*.

    Raises:
        DeclarationError: The target is a rack.
    """
    from rackwright.toolchain import workloads
    from rackwright.twin.fleet import build_twin

    lent = workloads.training_directory() if stack.lends_workloads else None
    return build_twin(_target(stack), stack.project, stack.fleet, stack.containers, stack.lends_mirrors, lent)


def _target(stack: "Stack") -> str:
    if stack.twin is None:
        expected, help = f"target twin:{stack.name}", "Name a stack whose target is a twin"
        raise DeclarationError(Diagnostic(f"stack {stack.name}", "its target is `rack`", expected, help))
    return stack.twin


@app.command()
def start(stack: StackName) -> None:
    """Start every machine that is off, and wait until all answer. Running machines are left alone."""
    loaded = project.stack(stack)
    for notice in loaded.notices:
        project.notify(f"note: {notice}")
    if loaded.lends_workloads:
        from rackwright.toolchain import workloads

        workloads.ensure(project.notify)
    try:
        _twin(stack).start(project.notify)
    except (KeyboardInterrupt, StopSignal):
        project.notify(f"machines that have started stay on; {command('rackwright twin stop {}', stack)} stops them")
        raise


@app.command()
def stop(stack: StackName) -> None:
    """Shut down the machines; keep their disks."""
    _twin(stack).stop(project.notify)
    project.notify("the twin is off; its disks are kept")


@app.command()
def reset(
    stack: StackName,
    yes: Annotated[bool, typer.Option("--yes", help="Delete disks and states without a question.")] = False,
) -> None:
    """Stop the machines at once; delete their disks, and the state of every stack that targets this twin.

    Asks before it deletes them. Exit status: 2 not confirmed.
    """
    from rackwright.cli import recording

    loaded = project.stack(stack)
    target = _target(loaded)  # a rack is refused before the entry
    if not yes:
        again = command("rackwright twin reset {}", stack)
        terminal.require(f"Run {again} on a terminal, or pass --yes to delete disks and states unseen")
        if not terminal.confirm(f"Delete all disks of the twin {target}, and the states of {_list_stacks(loaded)}?"):
            project.notify("nothing was deleted")
            raise typer.Exit(2)
    planned = [recording.change(f"twin {loaded.twin}", "reset", destroys=["all disks", "the states of its stacks"])]
    arguments = {"stacks": " ".join(stacks_of_twin(loaded))}
    with recording.record("twin reset", loaded.name, arguments=arguments, planned=planned):
        reset_twin(loaded)


def _list_stacks(stack: "Stack") -> str:
    return ", ".join(stacks_of_twin(stack)) or "no stack"


def reset_twin(stack: "Stack") -> None:
    """Delete the disks of the twin of *stack*, and the state of every stack that targets it.

    Raises:
        StepFailed: The state of a stack is not deleted.
    """
    names = list(stacks_of_twin(stack))  # errors of settings are reported before anything is deleted
    build(stack).reset(project.notify)
    environment = project.environment(stack.name)
    errors = []
    for name in names:
        argv = ["pulumi", "stack", "rm", "--yes", "--force", "--preserve-config", name]
        done = subprocess.run(argv, cwd=stack.project, env=environment, capture_output=True, text=True)
        if done.returncode and NO_STATE not in done.stderr:
            problem = f'its state is not deleted; pulumi printed "{" ".join(done.stderr.split())}"'
            help, note = f"Run {command('pulumi stack rm {}', name)}", "the disks of the twin are deleted"
            errors.append(Diagnostic(f"stack {name}", problem, help=help, note=note))
        else:
            project.notify(f"state of stack {name}: {'none' if done.returncode else 'deleted'}")
    if errors:
        raise StepFailed(*errors)


def stacks_of_twin(stack: "Stack") -> Iterator[str]:
    """Yield the names of the stacks with the same twin as *stack*; report settings that cannot be read."""
    from rackwright.stack.settings import settings_source

    for name in stack_names(stack.project):
        try:
            config = settings_source(name, stack.project).data.get("config")
        except DeclarationError as error:
            project.notify(f"note: the state of stack {name} is kept, because its settings have errors: {error}")
            continue
        if isinstance(config, dict) and config.get("rackwright:target") == f"twin:{stack.twin}":
            yield name


@app.command()
def status(stack: StackName, as_json: AsJson = False) -> None:
    """Show each machine: backend, power, whether it answers, port, pulled drives."""
    loaded = project.stack(stack)
    machines = build(loaded).status()
    if as_json:
        status: TwinStatus = {"twin": _target(loaded), "machines": machines}
        terminal.show_json(status)
        return
    for machine in machines:
        state = "answers" if machine.answers else "on, no answer" if machine.power else "off"
        more = [f"port {machine.port}"] * bool(machine.power) + [f"pulled: {serial}" for serial in machine.pulled]
        more += ["its declaration has changed since its start"] * machine.changed
        terminal.show(f"{machine.name}: {', '.join([machine.backend, state, *more])}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(context: typer.Context, stack: StackName, host: HostName) -> None:
    """Log in to a host of the twin, or run a command there."""
    argv = _twin(stack).ssh(host, *context.args)
    os.execvp(argv[0], argv)


@app.command()
def console(stack: StackName, host: HostName) -> None:
    """Print what a host wrote to its console."""
    terminal.show(_twin(stack).console(host).read_text(errors="replace"), end="")


@app.command()
def fault(
    stack: StackName,
    fault: Annotated[Fault, typer.Argument(help="The fault, or its end.")],
    host: HostName,
    argument: Annotated[
        str | None,
        typer.Argument(
            metavar="SERIAL|BYTES|PATH|SECONDS|COMPONENT|GPU",
            help="SERIAL: a drive. BYTES: for mtu, the largest packet that the switch passes; by default all. PATH: "
            "for disk, the mount point. SECONDS: for clock, its error; by default 0; a negative number needs `--` "
            "before HOST; for certificates, how long they are valid. COMPONENT: of a control plane, such as etcd. "
            "GPU: the number of a GPU.",
        ),
    ] = None,
) -> None:
    """Cause a fault on a host; return when its effect is visible there."""
    from rackwright.cli.twin_faults import cause

    cause(_twin(stack), host, fault.value, argument)
    project.notify(f"{host}: {fault.value}{f' {argument}' if argument else ''} done")
