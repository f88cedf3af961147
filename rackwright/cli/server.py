"""Commands about model servers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.errors import command
from rackwright.iteration.request import Stage

if TYPE_CHECKING:
    from rackwright.schema.server import ServedModel
    from rackwright.stack import Stack

app = typer.Typer(no_args_is_help=True, help="The model servers of a stack.")
StackName = Annotated[str, typer.Argument(metavar="STACK", help="Name of a stack whose fleet has servers.")]
ServerName = Annotated[str, typer.Argument(metavar="SERVER")]
AsJson = Annotated[bool, typer.Option("--json", help="Print for machines.")]
Tracking = Annotated[
    str, typer.Option(metavar="URL", envvar=project.TRACKING_URL, help="The MLflow server of registered models.")
]


@app.command()
def status(stack: StackName, server: ServerName, tracking: Tracking = "", as_json: AsJson = False) -> None:
    """Show what each host serves, how fast and, where it is watched, how right; what it served before or refused.

    Of a registered model also where its name leads by now, on which the status does not depend. Exit status: 0 every
    host serves the declared version, 1 one does not, or is not as right as it has to be, 3 one was not reached, or its
    accuracy is not known.
    """
    from rackwright.status import servers

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        report = servers.observe(hosts, loaded, server, tracking)
    terminal.show(json.dumps(report.as_json(), indent=2) if as_json else report)
    raise typer.Exit(report.exit_status)


@app.command()
def logs(
    stack: StackName,
    server: ServerName,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each host.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, until it is interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what the servers have said, each line with its host; never what was in a request."""
    from rackwright.status import servers

    def say(host: str, line: str) -> None:
        terminal.show(json.dumps({"host": host, "line": line}) if as_json else f"{host}: {line}", flush=True)

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        servers.stream_logs(hosts, loaded, server, lines, follow, say)


@app.command()
def promote(
    stack: StackName,
    server: ServerName,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Directory below the project's, a version, or models:/NAME@ALIAS or models:/NAME/NUMBER of the"
            " registry; without it, what the declared name in the registry leads to now.",
        ),
    ] = None,
    tracking: Tracking = "",
    as_json: AsJson = False,
) -> None:
    """Write another model into the fleet's file; the next `up` lets one host after the other serve it. Touches no host.

    One of the registry is fetched to this computer, and which one it is stands beside its name. Exit status: 0 written,
    1 it is damaged, 2 it is no model, or not good enough, 3 the registry was not reached.
    """
    from rackwright.cli import registered
    from rackwright.stack import server_model
    from rackwright.status import servers

    loaded = project.stack(stack)
    servers.require_server(loaded, server)
    before = server_model.declared_version(loaded, server)
    if name := registered.name_in(loaded, server, model):
        chosen = registered.model_to_serve(loaded, server, name, tracking)
    else:
        chosen = server_model.model_to_serve(loaded, server, str(model))
    _exchange(loaded, server, chosen, before, as_json)


@app.command()
def fetch(
    stack: StackName,
    server: Annotated[
        str | None, typer.Argument(metavar="SERVER", help="Without it, all servers of the stack.")
    ] = None,
    tracking: Tracking = "",
    as_json: AsJson = False,
) -> None:
    """Bring the registered models that are declared to this computer, as `promote` does where it runs.

    Each is found and proved by its sha256, wherever its name leads by now; what is here already is not asked for.
    Exit status: 0 all are here, 1 one is damaged, 2 one is not declared or gone, 3 the registry was not reached.
    """
    from rackwright.cli import registered
    from rackwright.status import servers

    loaded = project.stack(stack)
    if server is not None:
        servers.require_server(loaded, server)
    told = [registered.fetched(loaded, name, tracking) for name in registered.of(loaded, server)]
    if as_json:
        terminal.show(json.dumps(told))
    for each in () if as_json else told:
        terminal.show(f"{each['server']}: version {each['version']} is in {each['directory']}")


@app.command()
def iterate(
    stack: StackName,
    server: ServerName,
    data: Annotated[Path, typer.Option(metavar="NEW.npz", help="New rows: an array for the input, and `labels`.")],
    given: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="The training of what is served, if it is not found.")
    ] = None,
    tracking: Annotated[
        str, typer.Option(metavar="URL", envvar=project.TRACKING_URL, help="An MLflow server that may have it.")
    ] = "",
    may_lose: Annotated[
        float, typer.Option(min=0, max=0.99, help="How much accuracy, of 1, on each set that is known already.")
    ] = 0.01,
    target: Annotated[str | None, typer.Option(help="cpu, or a GPU of the catalogue; else as what is served.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="That train, on this computer.")] = 1,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="tune.steps=100, quantize.calibration=entropy; may be repeated."
        ),
    ] = None,
    until: Annotated[Stage, typer.Option(help="The last stage; promote touches no host yet.")] = Stage.UP,
    as_json: AsJson = False,
) -> None:
    """Bring new data to what is served: find its training, fine-tune, gate, quantise, promote, roll out.

    Each stage is timed; the report is in .rackwright/iterations/SERVER. The same again goes on where it ended. Exit
    status: 0 served, or as far as --until, 1 a gate refused it, 2 wrong or refused, 3 not reached, 4 a step failed.
    """
    from rackwright.cli.iterate import run
    from rackwright.iteration.request import IterationRequest

    asked = IterationRequest(
        project.stack(stack), server, data, tuple(changes or ()), may_lose, target, given, tracking, processes, until
    )
    run(asked, as_json)


@app.command()
def rollback(stack: StackName, server: ServerName, as_json: AsJson = False) -> None:
    """Write the version that was served before into the fleet's file; its hosts have it, and the next `up` serves it.

    Exit status: 0 written, 2 there is none, 3 a host was not reached.
    """
    from rackwright.status import servers

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        report = servers.observe(hosts, loaded, server)
    model = loaded.fleet.servers[server].model.of_version(report.previous_version())
    _exchange(loaded, server, model, report.version, as_json)


@app.command()
def image(
    stack: StackName,
    server: ServerName,
    base: Annotated[str, typer.Option(metavar="REGISTRY/NAME@sha256:…", help="The image that it begins with.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Not there, empty, or written so before.")],
    python_of_base: Annotated[
        bool, typer.Option("--python-of-base", help="The base has Python 3.11 or later, venv and libgomp already.")
    ] = False,
    requirements: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With hashes, in the place of this repository's lock.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what an image of the server is built from, without model, keys and certificate; touches no host.

    It listens on port 8080, with the settings that are declared. The model is mounted at /model. Exit status:
    0 written, 2 it is refused.
    """
    from rackwright.kinds.model_server.image import MODEL
    from rackwright.stack.server_image import image
    from rackwright.status import servers

    loaded = project.stack(stack)
    found = image(servers.specs(loaded, server), loaded.repository, base, requirements, python_of_base)
    project.fill(out, found.files)
    if as_json:
        terminal.show(json.dumps({"directory": str(out), "image": found.tag, "stop_seconds": found.stop_seconds}))
        return
    terminal.show(f"{out}: what {found.tag} is built from, by one of")
    terminal.show(f"  podman build --format docker --tag {found.tag} {out}")
    terminal.show(f"  buildah build --format docker --tag {found.tag} {out}")
    terminal.show(f"  docker build --file {out}/Containerfile --tag {found.tag} {out}")
    directory = found.secrets_directory
    volume = f" --volume {directory}:{directory}:ro" if directory else ""
    terminal.show("and run, with its model in MODEL, by")
    terminal.show(
        "  podman run --read-only --cap-drop all --security-opt no-new-privileges"
        f" --stop-timeout {found.stop_seconds} --publish 8080:8080 --volume MODEL:{MODEL}:ro{volume} {found.tag}"
    )


def _exchange(stack: "Stack", server: str, model: "ServedModel", before: str | None, as_json: bool) -> None:
    """Write *model* as that of *server*, which had the version *before*, into the fleet's file, and say so."""
    from rackwright.fleet.edit_server import replace_model

    path = project.rewrite(stack.name, lambda path: replace_model(path, server, model))
    if as_json:
        terminal.show(
            json.dumps(
                {"server": server, "file": str(path), "model": model.model_dump(exclude_none=True), "before": before}
            )
        )
        return
    told = ", ".join(f"{name} {value}" for name, value in model.model_dump(exclude_none=True).items())
    project.say(
        f"{path.name}: {server} has {told} in the place of {f'version {before}' if before else 'none'}; see what that"
        f" does with {command('rackwright preview {}', stack.name)},"
        f" and do it with {command('rackwright up {}', stack.name)}"
    )
