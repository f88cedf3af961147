"""The commands that find, install or build the programs that rackwright needs."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import SET_UP
from rackwright.errors import quantity

app = typer.Typer()


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
    kubernetes_groups = "kubernetes-groups"
    kubernetes_metrics = "kubernetes-metrics"
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
    without_horovod: Annotated[
        bool,
        typer.Option("--without-horovod", help="With workloads: build no Horovod; torchrun does the work without it."),
    ] = False,
) -> None:
    """Find or install pulumi with its Python language host, or an environment, and print its path.

    With `system`, install missing packages of this system by apt-get, as root or by sudo; status 2 without either.
    With `kubernetes`, build its programs from Go modules, for racks without its vendor's repository: it takes 11
    minutes on two cores, 9 GB of temporary files, and 1 GB that stays. `lock --fetch` takes the packages from there.
    With `kubernetes-previous`, build the minor version before as well, for clusters that are upgraded later.
    With `kubernetes-queue`, build Kueue and JobSet as well, for clusters with `queue: true`.
    With `kubernetes-groups`, build LeaderWorkerSet as well, for clusters with `groups: true`.
    With `kubernetes-metrics`, build Metrics Server as well, for clusters with `metrics: true`.
    With `kubernetes-conformance`, build Kubernetes' own conformance tests, and the images of their pods.
    With `pulumi-kubernetes`, build its plugin: five minutes of one processor.
    With `registry`, build the registry of images of role registry, which `lock --fetch` takes from there.
    """
    if without_horovod:
        if tools is not Tools.workloads:
            raise typer.BadParameter("it is for workloads alone", param_hint="--without-horovod")
        _show_training(build_horovod=False)
        return
    _SHOW[tools](tools)


def _show_pulumi(tools: Tools) -> None:
    from rackwright import toolchain

    installation = toolchain.ensure(project.notify)
    terminal.show(f"pulumi {installation.version} ({installation.origin}) in {installation.directory}")


def _install_packages(tools: Tools) -> None:
    import subprocess

    from rackwright import toolchain

    script = Path(toolchain.__file__).with_name("system.sh")
    raise typer.Exit(subprocess.run(["/bin/sh", str(script)]).returncode)


def _show_workloads(tools: Tools) -> None:
    _show_training(build_horovod=True)


def _show_training(build_horovod: bool) -> None:
    from rackwright.toolchain import workloads

    environment = workloads.ensure(project.notify, build_horovod)
    if environment.without_horovod:
        project.notify(f"{environment.without_horovod}; torchrun takes its place")
    terminal.show(project.workloads_python(Tools.workloads.value, environment.python))


def _show_environment(tools: Tools) -> None:
    from rackwright.toolchain import workloads

    ensure = {
        Tools.serving: workloads.serving,
        Tools.vllm: workloads.vllm,
        Tools.evaluation: workloads.evaluation,
        Tools.tracking: workloads.tracking,
    }
    terminal.show(project.workloads_python(tools.value, ensure[tools](project.notify).python))


def _show_kubernetes(tools: Tools) -> None:
    from rackwright.toolchain.kubernetes import pins, programs

    if tools is Tools.kubernetes:
        _show_packages(f"Kubernetes {pins.KUBERNETES}", programs.ensure(project.notify))
    else:
        _show_packages(f"Kubernetes {pins.PREVIOUS}", programs.ensure_previous(project.notify))


def _show_controllers(tools: Tools) -> None:
    from rackwright.toolchain.kubernetes_controllers import GROUPS, METRICS, QUEUE, ensure

    controllers = {
        Tools.kubernetes_queue: QUEUE,
        Tools.kubernetes_groups: GROUPS,
        Tools.kubernetes_metrics: METRICS,
    }[tools]
    _show_packages(controllers.title, ensure(controllers, project.notify))


def _show_packages(text: str, directory: Path) -> None:
    packages = sorted(directory.glob("*.deb"))
    terminal.show(f"{text} in {directory}: {quantity(len(packages), 'package')} for {_add(packages)}")


def _show_registry(tools: Tools) -> None:
    from rackwright.toolchain import registry

    package = registry.ensure(project.notify)
    terminal.show(f"distribution {registry.VERSION} in {package}, for {_add([package])}")


def _add(packages: Sequence[Path]) -> str:
    """Add *packages* to those that `lock --fetch` takes, and return the names of the systems that they are for."""
    from rackwright.lock import store
    from rackwright.toolchain.apt import SUITES

    for system in SUITES:
        store.add(packages, system)
    return ", ".join(SUITES)


def _show_conformance(tools: Tools) -> None:
    from rackwright.toolchain import conformance

    directory = conformance.ensure(project.notify)
    terminal.show(f"conformance tests of Kubernetes: {directory / conformance.PROGRAM}")
    terminal.show(f"images of their pods: {directory / conformance.ARCHIVE}")


def _show_pulumi_kubernetes(tools: Tools) -> None:
    from rackwright.toolchain import pulumi_kubernetes

    plugin = pulumi_kubernetes.ensure(project.notify)
    terminal.show(f"plugin of pulumi-kubernetes {pulumi_kubernetes.VERSION} in {plugin}")


_SHOW: Mapping[Tools, Callable[[Tools], None]] = {
    Tools.pulumi: _show_pulumi,
    Tools.workloads: _show_workloads,
    **dict.fromkeys((Tools.serving, Tools.vllm, Tools.evaluation, Tools.tracking), _show_environment),
    **dict.fromkeys((Tools.kubernetes, Tools.kubernetes_previous), _show_kubernetes),
    **dict.fromkeys((Tools.kubernetes_queue, Tools.kubernetes_groups, Tools.kubernetes_metrics), _show_controllers),
    Tools.kubernetes_conformance: _show_conformance,
    Tools.pulumi_kubernetes: _show_pulumi_kubernetes,
    Tools.registry: _show_registry,
    Tools.system: _install_packages,
}
"""The function that finds or makes each of the tools, and prints where it is."""


@app.command(rich_help_panel=SET_UP)
def env() -> None:
    """Print the environment variables for pulumi; use: eval "$(rackwright env)".

    Variables that you have set, such as PULUMI_BACKEND_URL, stay, and the command names them. It creates the stacks of
    the project that a state in files does not have, so that plain `pulumi preview` works.
    """
    import os

    from rackwright import toolchain
    from rackwright.cli import state

    root = project.directory()
    toolchain.prepare(root)
    variables = toolchain.environment(root, toolchain.ensure(project.notify), os.environ)
    for name in sorted(toolchain.own_variables(root, os.environ)):
        project.notify(f"note: {name} stays as you have set it: {os.environ[name]}")
    for name in state.create_missing(root, {**os.environ, **variables}):
        project.notify(f"stack {name}: created, without resources")
    terminal.show(toolchain.exports(variables), end="")
