"""The twin's commands."""

import json
import os
import subprocess
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.errors import DeclarationError

if TYPE_CHECKING:
    from rackwright.stack import Stack
    from rackwright.twin import Twin

app = typer.Typer(no_args_is_help=True, help="The virtual twin of a rack, on this computer.")
StackName = Annotated[str, typer.Argument(metavar="STACK", help="Name of a stack whose target is a twin.")]
HostName = Annotated[str, typer.Argument(metavar="HOST")]


class Fault(StrEnum):
    pull = "pull"
    insert = "insert"
    power_off = "power-off"
    power_on = "power-on"
    reset = "reset"
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
    gpu_lost = "gpu-lost"
    gpu_xid = "gpu-xid"
    gpu_ecc = "gpu-ecc"
    gpu_hot = "gpu-hot"
    gpu_busy = "gpu-busy"
    gpu_clear = "gpu-clear"


def _twin(name: str) -> "Twin":
    from rackwright.toolchain import workloads
    from rackwright.twin.fleet import build_twin

    stack = project.stack(name)
    lent = workloads.place() if stack.lends_workloads else None
    return build_twin(_target(stack), stack.project, stack.fleet, stack.containers, stack.lends_mirrors, lent)


def _target(stack: "Stack") -> str:
    if stack.twin is None:
        where, fix = f"stack {stack.name}", f"Set rackwright:target to twin:{stack.name}, or take another stack"
        raise DeclarationError(where, "got target rack", "this command is for a stack on a twin", fix)
    return stack.twin


@app.command()
def start(stack: StackName) -> None:
    """Start every machine that is off, and wait until all answer. What runs is left alone."""
    loaded = project.stack(stack)
    for notice in loaded.notices:
        project.say(f"note: {notice}")
    if loaded.lends_workloads:
        from rackwright.toolchain import workloads

        workloads.ensure(project.say)
    _twin(stack).start(project.say)


@app.command()
def stop(stack: StackName) -> None:
    """Shut the machines down; their disks are kept."""
    _twin(stack).stop(project.say)
    project.say("the twin is off; its disks are kept")


@app.command()
def reset(stack: StackName) -> None:
    """Stop at once and delete the disks, and the state of every stack that targets this twin."""
    from rackwright.stack.stack import settings

    loaded = project.stack(stack)
    _twin(stack).reset(project.say)
    environment = project.environment(stack)
    for path in sorted((loaded.project / "stacks").glob("Pulumi.*.yaml")):
        name = path.name[len("Pulumi.") : -len(".yaml")]
        if settings(name, loaded.project)["target"] == f"twin:{loaded.twin}":
            argv = ["pulumi", "stack", "rm", "--yes", "--force", "--preserve-config", name]
            gone = subprocess.run(argv, cwd=loaded.project, env=environment, capture_output=True, text=True)
            project.say(f"state of stack {name}: {'deleted' if gone.returncode == 0 else gone.stderr.strip()}")


@app.command()
def status(stack: StackName, as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """Show each machine: what it is made by, power, whether it answers, its port, drives that are pulled."""
    machines = _twin(stack).status()
    if as_json:
        terminal.show(json.dumps([asdict(machine) for machine in machines], indent=2))
        return
    for machine in machines:
        state = "answers" if machine.answers else "on, no answer" if machine.power else "off"
        more = [f"port {machine.port}"] * bool(machine.power) + [f"pulled: {serial}" for serial in machine.pulled]
        more += ["declared otherwise when it was started"] * machine.changed
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
    fault: Annotated[Fault, typer.Argument(help="What goes wrong, or is put right again.")],
    host: HostName,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="SERIAL|BYTES|PATH|SECONDS|GPU",
            help="The drive, by its serial; of mtu, the largest packet that the switch passes, all without it; of "
            "disk, where it is mounted; of clock, how far it is off, not at all without it, and `--` before HOST where "
            "it is negative; of a GPU its number.",
        ),
    ] = None,
) -> None:
    """Let something go wrong on a host; returns when the effect is visible there."""
    from rackwright.twin import drive_faults, faults, host_faults
    from rackwright.twin.gpu import faults as gpu_faults

    twin = _twin(stack)
    if fault in (Fault.pull, Fault.insert):
        if what is None:
            raise typer.BadParameter(f"{fault.value} needs the serial of a drive", param_hint="SERIAL")
        (faults.pull if fault is Fault.pull else faults.insert)(twin, host, what)
    elif fault is Fault.mtu:
        if what is not None and not what.isdecimal():
            raise typer.BadParameter(f"mtu takes a number of bytes, and not {what}", param_hint="BYTES")
        faults.limit_packet_size(twin, host, None if what is None else int(what))
    elif fault.value.startswith("drive-"):
        if what is None:
            raise typer.BadParameter(f"{fault.value} needs the serial of a drive", param_hint="SERIAL")
        drive_faults.inject(twin, host, what, fault.value.removeprefix("drive-"))
    elif fault in (Fault.disk_full, Fault.disk_free):
        if what is None:
            raise typer.BadParameter(f"{fault.value} needs a path where something is mounted", param_hint="PATH")
        (host_faults.fill if fault is Fault.disk_full else host_faults.free)(twin, host, what)
    elif fault is Fault.clock:
        if what is not None and not what.removeprefix("-").isdecimal():
            raise typer.BadParameter(f"clock takes a number of seconds, and not {what}", param_hint="SECONDS")
        host_faults.skew(twin, host, int(what or 0))
    elif fault.value.startswith("gpu-"):
        if what is None or not what.isdecimal():
            raise typer.BadParameter(f"{fault.value} needs the number of a GPU", param_hint="GPU")
        gpu_faults.inject(twin, host, int(what), fault.value.removeprefix("gpu-"))
    elif fault is Fault.power_off:
        faults.power_off(twin, host)
    elif fault is Fault.power_on:
        faults.power_on(twin, host, project.say)
    else:
        faults.hard_reset(twin, host, project.say)
    project.say(f"{host}: {fault.value}{f' {what}' if what else ''} done")
