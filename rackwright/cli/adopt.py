"""The adopt command: it takes existing resources of hosts into a stack's state, unchanged."""

import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rackwright import scratch, terminal
from rackwright.cli import activity, project, state
from rackwright.cli.arguments import CHANGE, AsJson, StackName

if TYPE_CHECKING:
    from rackwright.audit.report import AuditResult, Evidence
    from rackwright.cli.json_types import Adoption
    from rackwright.hosts.pool import Hosts

app = typer.Typer()


@app.command(rich_help_panel=CHANGE)
def adopt(
    stack: StackName,
    set_aside_state: Annotated[
        bool,
        typer.Option(
            "--set-aside-state",
            help="First move a state that another version of rackwright wrote into a file of .rackwright/states.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take resources that are already as declared into the stack's state. Writes nothing to a host.

    The command compares the hosts before and after. It lists resources that differ, and leaves them for `up`.

    With --set-aside-state, a host in the old state that cannot be read is an error, and so is data in the old state
    that is absent on its host. The old state stays then. Running the command again is safe.

    Exit status: 1 a resource differs, or a host has changed during the command; 2 the state has another format, or
    stays; 3 a resource is unknown; 4 pulumi failed.
    """
    from rackwright.audit import evidence, report
    from rackwright.cli import recording, set_aside
    from rackwright.cli.state import parse_state, select
    from rackwright.hosts.pool import Hosts
    from rackwright.provider import state_format

    loaded = project.stack(stack)
    project.require_twin(loaded)
    loaded = project.secrets(loaded)
    exported = select(stack, project.directory(), project.environment(stack))
    old = parse_state(exported).get("deployment") or {}
    moves = set_aside_state and not set_aside.is_readable(old)
    if not moves:
        for found in state_format.formats(old):
            state_format.check_format(found, stack)
    hosts = Hosts(loaded.endpoints, loaded.salt)
    try:
        names = [name for name in loaded.fleet.hosts if name not in loaded.maintenance]
        before = evidence.from_hosts(hosts, names, project.notify)
        facts = {**before, **evidence.from_endpoints(loaded, project.notify)}
        # undeclared things are not taken over: the audit shows them
        compared = replace(report.compare(loaded, facts), undeclared=())
        observed = [each for each in compared.results if _host(each) in before or _host(each) not in loaded.fleet.hosts]
        matching = [each for each in observed if not (each.differences or each.not_reached)]
        aside = None
        if moves:
            set_aside.check_complete(loaded, old, facts, compared)
        planned = [recording.change("state", "set aside")] if moves else []
        planned += [recording.change(each.name, "import into the state", _host(each)) for each in matching]
        with recording.record("adopt", loaded, planned=planned):
            if moves:
                aside = set_aside.set_aside(stack, exported)
            urns = state.urns(stack)
            present = {_name(urn) for urn in urns if _type(urn) not in (state_format.RACK, state_format.HOST)}
            new = [each for each in matching if each.name not in present]
            if new:
                project.notify(f"adopting {len(new)} of {len(compared.results)} resources")
                _import(stack, new, loaded.fleet.hosts)
        changed = dict(_host_changes(before, hosts))
    finally:
        hosts.close()
    result: Adoption = {
        "adopted": [each.name for each in new],
        "already_adopted": [each.name for each in matching if each not in new],
        "not_adopted": {each.name: _why(each) for each in observed if each not in matching},
        "changes": changed,
        "set_aside": str(aside) if aside else None,
        "undeclared": set_aside.find_undeclared(old, [each.name for each in compared.results]) if aside else [],
    }
    if as_json:
        terminal.show_json(result)
    else:
        terminal.show("\n".join(_lines(result)))
    raise typer.Exit(compared.exit_status or (1 if changed else 0))


def _import(stack: str, results: "Sequence[AuditResult]", hosts: Container[str]) -> None:
    """Import *results* into the state with pulumi, each below the component of its host, or of the rack.

    In pulumi's import file, `name` is for references in that file; `logicalName` is the name in the program.
    """
    from rackwright.provider.state_format import HOST, RACK, RACK_NAME

    urns = state.urns(stack)
    racks = [urn for urn in urns if _type(urn) == RACK]
    components = {_name(urn): urn for urn in urns if _type(urn) == HOST}
    of_host = {each: f"host {each}" for each in dict.fromkeys(map(_host, results)) if each in hosts}
    component = {"component": True, "parent": "the rack"}
    resources: list[dict[str, Any]] = [
        {"type": HOST, "name": name, "logicalName": host, **component}
        for host, name in of_host.items()
        if host not in components
    ]
    if not racks:
        resources.insert(0, {"type": RACK, "name": "the rack", "logicalName": RACK_NAME, "component": True})
    resources += [
        {"type": each.token, "name": each.name, "id": each.name, "parent": of_host.get(_host(each), "the rack")}
        for each in results
    ]
    name_table = {of_host[host]: urn for host, urn in components.items() if host in of_host}
    if racks:
        name_table["the rack"] = racks[0]
    with scratch.directory() as folder, activity.show_work() as progress:
        progress(f"importing {len(resources)} resources into the state")
        path = Path(folder, "import.json")
        path.write_text(json.dumps({"nameTable": name_table, "resources": resources}))
        options = ("--yes", "--skip-preview", "--generate-code=false", "--protect=false")
        state.pulumi(stack, "import", "--file", str(path), *options)


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _type(urn: str) -> str:
    """Return the type of the resource *urn*, without the types of its parents."""
    return urn.split("::")[2].rpartition("$")[2]


def _host(result: "AuditResult") -> str:
    return result.name.partition("/")[0]


def _host_changes(before: "Evidence", hosts: "Hosts") -> Iterator[tuple[str, list[str]]]:
    """Yield each reached host whose settings have changed since *before*, with the changed paths."""
    from rackwright.facts import compare
    from rackwright.facts.facts import Facts

    for name, facts in before.items():
        if isinstance(facts, Facts) and (paths := compare.changed_paths(facts, hosts.facts(name, fresh=True))):
            yield name, list(paths)


def _why(result: "AuditResult") -> list[str]:
    from rackwright.core.wording import format_difference

    return [result.not_reached] if result.not_reached else [format_difference(each) for each in result.differences]


def _lines(result: "Adoption") -> Iterator[str]:
    yield f"adopted: {', '.join(result['adopted']) or 'nothing'}"
    if result["already_adopted"]:
        yield f"in the state already: {', '.join(result['already_adopted'])}"
    for name, reasons in result["not_adopted"].items():
        yield from (f"not adopted, {name}: {reason}" for reason in reasons)
    if undeclared := result["undeclared"]:
        yield f"in the old state and no longer declared, so they stay on their hosts: {', '.join(undeclared)}"
    for name, paths in result["changes"].items():
        yield f"changed on {name} during the command, not by it: {', '.join(paths)}"
    if not result["changes"]:
        yield "the settings of the hosts that were reached have not changed"
