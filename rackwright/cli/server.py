"""The commands for model servers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, OptionalServerName, ServerName, StackName
from rackwright.errors import command
from rackwright.iteration.request import Stage

if TYPE_CHECKING:
    from rackwright.cli.json_types import FetchedModels, ImageContext, LogLine, ModelChange
    from rackwright.schema.server import ServedModel
    from rackwright.stack import Stack

app = typer.Typer(no_args_is_help=True, help="The model servers of a stack.")
Tracking = Annotated[
    str, typer.Option(metavar="URL", envvar=project.TRACKING_URL, help="The MLflow server of registered models.")
]


@app.command()
def status(stack: StackName, server: ServerName, tracking: Tracking = "", as_json: AsJson = False) -> None:
    """Show the version, latency and canary accuracy of each host, with its previous version and a refused one.

    For a registered model, the command also resolves its name again; the status does not depend on that. Exit status:
    0 every host serves the declared version, 1 one does not, or its accuracy is too low, 3 one was not reached, or its
    accuracy is unknown.
    """
    from rackwright.status import servers

    loaded = project.stack(stack)
    with project.connect_hosts(loaded) as hosts:
        report = servers.observe(hosts, loaded, server, tracking)
    if as_json:
        terminal.show_json(report.as_json())
    else:
        terminal.show(report)
    raise typer.Exit(report.exit_status)


@app.command()
def logs(
    stack: StackName,
    server: ServerName,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of last lines of each host.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the logs of a server, each line with its host. Logs never contain the content of a request."""
    from rackwright.status import servers

    def print_line(host: str, line: str) -> None:
        if as_json:
            log_line: LogLine = {"host": host, "line": line}
            terminal.show_json(log_line, stream=True)
        else:
            terminal.show(f"{host}: {line}", flush=True)

    loaded = project.stack(stack)
    with project.connect_hosts(loaded) as hosts:
        servers.stream_logs(hosts, loaded, server, lines, follow, print_line)


@app.command()
def promote(
    stack: StackName,
    server: ServerName,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Directory below the project's, a version, or models:/NAME@ALIAS or models:/NAME/NUMBER of the"
            " registry; by default, the version that the declared registered name resolves to now.",
        ),
    ] = None,
    tracking: Tracking = "",
    as_json: AsJson = False,
) -> None:
    """Write another model into the fleet's file; the next `up` rolls it out, host after host. Touches no host.

    A registered model is fetched to this computer, and its version and sha256 are written beside its name. Exit status:
    0 written, 1 the model is damaged, 2 it is no model, or fails its gate, 3 the registry was not reached.
    """
    from rackwright.cli import registered
    from rackwright.stack import server_model
    from rackwright.status import servers

    loaded = project.stack(stack)
    servers.require_server(loaded, server)
    before = server_model.declared_version(loaded, server)
    if name := registered.name_in(loaded, server, model):
        served_model = registered.model_to_serve(loaded, server, name, tracking)
    else:
        served_model = server_model.model_to_serve(loaded, server, str(model))
    _replace_model("server promote", loaded, server, served_model, before, as_json)


@app.command()
def fetch(
    stack: StackName,
    server: OptionalServerName = None,
    tracking: Tracking = "",
    as_json: AsJson = False,
) -> None:
    """Fetch the declared registered models to this computer, as `promote` does on its own computer.

    Models are found and verified by their sha256, even if their names resolve to other versions now. A model that is
    here already is not requested again. Exit status: 0 all are here, 1 one is damaged, 2 one is not declared or no
    longer in the registry, 3 the registry was not reached.
    """
    from rackwright.cli import registered
    from rackwright.status import servers

    loaded = project.stack(stack)
    if server is not None:
        servers.require_server(loaded, server)
    names = registered.servers_with_registered_model(loaded, server)
    models = [registered.fetch(loaded, name, tracking) for name in names]
    if as_json:
        fetched: FetchedModels = {"models": models}
        terminal.show_json(fetched)
        return
    for each in models:
        terminal.show(f"{each['server']}: version {each['version']} is in {each['directory']}")


@app.command()
def iterate(
    stack: StackName,
    server: ServerName,
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="New rows (.npz) for an image classifier, or conversations (.jsonl, .parquet) for a language model.",
        ),
    ],
    training_directory: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="The training of the served model, if it is not found.")
    ] = None,
    tracking: Annotated[
        str, typer.Option(metavar="URL", envvar=project.TRACKING_URL, help="An MLflow server that may have it.")
    ] = "",
    may_lose: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99,
            help="Largest loss of accuracy, as a share of 1, on each data set of the earlier training; for a language "
            "model, accuracy by token.",
        ),
    ] = 0.01,
    must_gain: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99,
            help="Smallest gain of accuracy on the new data, as a share of 1; with 0, a model that has lost nothing is "
            "good enough.",
        ),
    ] = 0.0,
    at_least: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Smallest accuracy of the new model on the new data, as a share of 1, whatever the served model has; "
            "with --choices, on the questions.",
        ),
    ] = None,
    choices: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For a language model: questions with choices (.jsonl), of which the new model must have as many "
            "right as the served one, less --may-lose.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="For a classifier: cpu, or a GPU of the catalogue; by default that of the served model."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Number of training processes on this computer.")] = 1,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="tune.steps=100, quantize.calibration=entropy, publish.dtype=bf16; may be repeated.",
        ),
    ] = None,
    until: Annotated[Stage, typer.Option(help="The last stage; up to promote, no host is touched.")] = Stage.UP,
    yes: Annotated[bool, typer.Option("--yes", help="Change the hosts without a question.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the served model on new data: find its training, fine-tune, gate, publish, promote, roll out.

    A classifier learns rows, and stage quantize publishes it. A language model learns conversations, and stage publish
    exports it for vLLM or llama.cpp.
    The last stage previews the rollout and asks before it changes a host.
    The report, with the time of each stage, is in .rackwright/iterations/SERVER. The same command continues after an
    interruption. Exit status: 0 served, or done up to --until, 1 a gate refused the model, 2 wrong or refused, 3 not
    reached, 4 a step failed.
    """
    from rackwright.cli.iterate import run
    from rackwright.iteration.gate import Limits
    from rackwright.iteration.request import IterationRequest

    request = IterationRequest(
        project.stack(stack),
        server,
        data,
        tuple(changes or ()),
        Limits(may_lose, must_gain, at_least),
        choices,
        target,
        training_directory,
        tracking,
        processes,
        until,
    )
    run(request, as_json, yes)


@app.command()
def rollback(stack: StackName, server: ServerName, as_json: AsJson = False) -> None:
    """Write the previous version into the fleet's file. The hosts still have it, and the next `up` serves it.

    Exit status: 0 written, 2 there is no previous version, 3 a host was not reached.
    """
    from rackwright.status import servers

    loaded = project.stack(stack)
    with project.connect_hosts(loaded) as hosts:
        report = servers.observe(hosts, loaded, server)
    model = loaded.fleet.servers[server].model.of_version(report.previous_version())
    _replace_model("server rollback", loaded, server, model, report.version, as_json)


@app.command()
def image(
    stack: StackName,
    server: ServerName,
    base: Annotated[str, typer.Option(metavar="REGISTRY/NAME@sha256:…", help="The base image.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="An absent or empty directory, or that of an earlier call.")],
    python_of_base: Annotated[
        bool, typer.Option("--python-of-base", help="The base image has Python 3.11 or later, venv and libgomp.")
    ] = False,
    requirements: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Requirements with hashes, instead of this repository's lock.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the build context of a container image of the server, without model, keys and certificate. Touches no host.

    The server listens on port 8080, with the declared settings; the model is mounted at /model. Exit status:
    0 written, 2 refused.
    """
    from rackwright.kinds.model_server.image import MODEL
    from rackwright.stack.server_image import image
    from rackwright.status import servers

    loaded = project.stack(stack)
    built = image(servers.specs(loaded, server), loaded.repository, base, requirements, python_of_base)
    project.write_files(out, built.files)
    if as_json:
        context: ImageContext = {"directory": str(out), "image": built.tag, "stop_seconds": built.stop_seconds}
        terminal.show_json(context)
        return
    terminal.show(f"{out}: the build context of {built.tag}; build it with one of")
    terminal.show(f"  podman build --format docker --tag {built.tag} {out}")
    terminal.show(f"  buildah build --format docker --tag {built.tag} {out}")
    terminal.show(f"  docker build --file {out}/Containerfile --tag {built.tag} {out}")
    directory = built.secrets_directory
    volume = f" --volume {directory}:{directory}:ro" if directory else ""
    terminal.show("and run it, with its model in MODEL, with")
    terminal.show(
        "  podman run --read-only --cap-drop all --security-opt no-new-privileges"
        f" --stop-timeout {built.stop_seconds} --publish 8080:8080 --volume MODEL:{MODEL}:ro{volume} {built.tag}"
    )


def _replace_model(
    command_name: str, stack: "Stack", server: str, model: "ServedModel", before: str | None, as_json: bool
) -> None:
    """Write *model* as that of *server* into the fleet's file, and print it with the version *before*."""
    from rackwright.cli import recording
    from rackwright.fleet.edit_server import replace_model

    changes = [recording.change(server, f"write {model.version or model.registered} into the fleet's file")]
    with recording.record(command_name, stack, arguments={"server": server}, planned=changes):
        path = project.rewrite(stack.name, lambda path: replace_model(path, server, model))
    if as_json:
        change: ModelChange = {"server": server, "file": str(path), "model": model, "previous": before}
        terminal.show_json(change)
        return
    fields = ", ".join(f"{name} {value}" for name, value in model.model_dump(exclude_none=True).items())
    project.notify(
        f"{path.name}: {server} has {fields} in the place of {f'version {before}' if before else 'none'}; to see the"
        f" effect, run {command('rackwright preview {}', stack.name)},"
        f" and to apply it, {command('rackwright up {}', stack.name)}"
    )
