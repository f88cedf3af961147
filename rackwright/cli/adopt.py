"""What hosts have already, taken over into a stack's state as it is."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rackwright import terminal
from rackwright.cli import project, state

if TYPE_CHECKING:
    from rackwright.audit.report import Evidence, Result
    from rackwright.hosts.pool import Hosts

app = typer.Typer()
COMPONENT = "rackwright:index:GpuHost"
"""What the program puts the resources of a host below."""


@app.command()
def adopt(
    stack: Annotated[str, typer.Argument(metavar="STACK")],
    as_json: Annotated[bool, typer.Option("--json", help="Print for machines.")] = False,
) -> None:
    """Take what is there as declared into the stack's state. Nothing is written to a host.

    What is set on the hosts is compared before and after. What is not as declared is told, and left for `up`.

    Exit status: 1 something is not as declared, or was changed meanwhile; 3 something is not known; 4 pulumi failed.
    """
    from rackwright.audit import evidence, report
    from rackwright.cli.pulumi import select
    from rackwright.hosts.pool import Hosts

    loaded = project.secrets(project.stack(stack))
    select(stack, project.directory(), project.environment(stack))
    there = {urn.rpartition("::")[2]: urn for urn in state.urns(stack) if f"{COMPONENT}::" not in urn}
    hosts = Hosts(loaded.endpoints, loaded.salt)
    try:
        names = [name for name in loaded.fleet.hosts if name not in loaded.maintenance]
        before = evidence.from_hosts(hosts, names, project.say)
        found = report.compare(loaded, before)
        looked_at = [each for each in found.results if _host(each) in before]
        whole = [each for each in looked_at if not (each.differences or each.not_reached)]
        new = [each for each in whole if each.name not in there]
        if new:
            project.say(f"taking over {len(new)} of {len(found.results)} resources")
            _import(stack, new)
        changed = dict(_changed(before, hosts))
    finally:
        hosts.close()
    told = {
        "adopted": [each.name for each in new],
        "there_already": [each.name for each in whole if each not in new],
        "left": {each.name: _why(each) for each in looked_at if each not in whole},
        "changed": changed,
    }
    terminal.show(json.dumps(told, indent=2) if as_json else "\n".join(_lines(told)))
    raise typer.Exit(found.exit_status or (1 if changed else 0))


def _import(stack: str, results: "Sequence[Result]") -> None:
    """Let pulumi read *results* into the state, each below the component of its host.

    In a file of imports a name is what others refer to; what the program calls it is its logical name.
    """
    components = {urn.rpartition("::")[2]: urn for urn in state.urns(stack) if f"{COMPONENT}::" in urn}
    of_host = {each: f"host {each}" for each in dict.fromkeys(_host(result) for result in results)}
    resources: list[dict[str, Any]] = [
        {"type": COMPONENT, "name": name, "logicalName": host, "component": True}
        for host, name in of_host.items()
        if host not in components
    ]
    resources += [
        {"type": each.token, "name": each.name, "id": each.name, "parent": of_host[_host(each)]} for each in results
    ]
    known = {of_host[host]: urn for host, urn in components.items() if host in of_host}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "import.json")
        path.write_text(json.dumps({"nameTable": known, "resources": resources}))
        options = ("--yes", "--skip-preview", "--generate-code=false", "--protect=false")
        state.pulumi(stack, "import", "--file", str(path), *options)


def _host(result: "Result") -> str:
    return result.name.partition("/")[0]


def _changed(before: "Evidence", hosts: "Hosts") -> Iterator[tuple[str, list[str]]]:
    """Yield for each host that was reached what is set otherwise now, if anything is."""
    from rackwright.facts import compare
    from rackwright.facts.facts import Facts

    for name, facts in before.items():
        if isinstance(facts, Facts) and (paths := compare.changed_paths(facts, hosts.facts(name, fresh=True))):
            yield name, list(paths)


def _why(result: "Result") -> list[str]:
    from rackwright.core.wording import format_difference

    return [result.not_reached] if result.not_reached else [format_difference(each) for each in result.differences]


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"taken over: {', '.join(told['adopted']) or 'nothing'}"
    if told["there_already"]:
        yield f"there already: {', '.join(told['there_already'])}"
    for name, reasons in told["left"].items():
        yield from (f"left, {name}: {reason}" for reason in reasons)
    for name, paths in told["changed"].items():
        yield f"changed on {name} meanwhile, by somebody else: {', '.join(paths)}"
    if not told["changed"]:
        yield "on the hosts that were reached everything is set as it was before"
