"""Notices about declared models that are not on this computer, from which hosts get them."""

from collections.abc import Iterator

from rackwright.errors import UserError, command
from rackwright.schema.server import Server
from rackwright.stack.stack import Stack
from workloads.quantize import versions
from workloads.serving import model as model_directory
from workloads.tracking import registry

ON_HOSTS = "`up` works only for hosts that already have it"


def missing_models(stack: Stack) -> Iterator[str]:
    """Yield a notice for each server of *stack* whose declared model is not here, with the commands that make it."""
    for name, server in stack.fleet.servers.items():
        wanted = server.model
        if wanted.path is not None and wanted.tier is None and wanted.version is not None:
            yield from _missing_directory(stack, name, server)
        elif wanted.sha256 is not None and versions.find_local(wanted.sha256, registry.cache_directory()) is None:
            fetch = command("rackwright server fetch {} {}", stack.name, name)
            yield f"servers.{name}: the registered model is not on this computer: {ON_HOSTS}. Run {fetch}"


def _missing_directory(stack: Stack, name: str, server: Server) -> Iterator[str]:
    path, version = str(server.model.path), server.model.version
    promote = command("rackwright server promote {} {} {}", stack.name, name, path)
    try:
        found = model_directory.read(stack.project / path).version
    except UserError:
        train = "" if server.vllm else " (after the training run that makes RUN)"
        program = "workloads.serving.vllm MODEL --name NAME" if server.vllm else "workloads.quantize RUN …"
        publish = command(f"$(rackwright toolchain workloads) -m {program} --out {{}}", path)
        publish += (
            "" if server.vllm else " (a language model: `$(rackwright toolchain serving) -m workloads.serving.gguf …`)"
        )
        yield (
            f"servers.{name}: {path} has no model, and the fleet declares version {version}: {ON_HOSTS}."
            f" Run {publish}{train}, then {promote}"
        )
        return
    if found != version:
        text = f"servers.{name}: {path} has version {found}, and the fleet declares {version}: {ON_HOSTS}."
        yield f"{text} Run {promote} to declare the version in the directory"
