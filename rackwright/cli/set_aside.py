"""An old state moved aside: from the stack into a file, so that the hosts can be taken over into an empty state."""

import json
import os
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rackwright import scratch
from rackwright.cli import project, state
from rackwright.errors import ChangeRefused, Diagnostic, command
from rackwright.files import fsync_directory
from rackwright.kinds.shared.unit_overrides import split_overrides
from rackwright.kinds.table import KINDS
from rackwright.provider import state_format
from rackwright.provider.inputs import parse_spec

if TYPE_CHECKING:
    from rackwright.audit.report import AuditReport, AuditResult, Evidence
    from rackwright.stack import Stack


def is_readable(deployment: Mapping[str, Any]) -> bool:
    """Return whether this version can read each resource of *deployment*, of `pulumi stack export`."""
    if {*state_format.formats(deployment)} - {state_format.STATE_FORMAT}:
        return False
    try:
        for resource in state_format.managed_resources(deployment):
            parse_spec(KINDS[resource["type"]], resource.get("inputs", {}))
    except (KeyError, ValidationError):  # a kind or a shape of another version
        return False
    return True


def check_complete(
    stack: "Stack", deployment: Mapping[str, Any], evidence: "Evidence", compared: "AuditReport"
) -> None:
    """Check that the stack loses nothing when the state *deployment* is moved aside.

    Raises:
        ChangeRefused: A host of the state was not read, so its resources could not be taken over; or data that the
            state knows is absent on its host, and the next `up` would create it again.
    """
    names = {resource["urn"].rpartition("::")[2]: resource for resource in state_format.managed_resources(deployment)}
    hosts = dict.fromkeys(name.partition("/")[0] for name in names)
    refusals = [*_unread_hosts(stack, hosts, evidence)]
    results = {result.name: result for result in compared.results}
    for name, resource in names.items():
        if resource.get("outputs", {}).get("created") and name in results:
            refusals += _lost_data(stack, results[name], evidence)
    if refusals:
        raise ChangeRefused(*refusals)


def set_aside(stack: str, exported: str) -> Path:
    """Move the state *exported*, of `pulumi stack export`, from the stack into a file, and return that file.

    The state keeps the salt or provider of its secrets. An interrupted call can be repeated.

    Raises:
        ChangeRefused: The file exists with another state, or the state has changed since it was exported.
        StepFailed: Pulumi failed.
    """
    if state.pulumi(stack, "stack", "export") != exported:
        problem, note = "its state has changed during this command", "nothing was set aside"
        help = "Wait for the other command that changes the stack, and run this one again"
        raise ChangeRefused(Diagnostic(f"stack {stack}", problem, help=help, note=note))
    content = state.parse_state(exported)
    deployment = content["deployment"]
    number = next(state_format.formats(deployment), state_format.FIRST_FORMAT)
    path = project.directory() / ".rackwright" / "states" / f"{stack}.format-{number}.json"
    _write_once(path, exported)
    for operation in deployment.get("pending_operations") or ():
        project.notify(f"the old state has an unfinished operation: {operation['type']} {_name(operation['resource'])}")
    emptied = {name: value for name, value in deployment.items() if name not in ("resources", "pending_operations")}
    with scratch.directory() as folder:
        empty = Path(folder, "state.json")
        empty.write_text(json.dumps({**content, "deployment": emptied}))
        state.pulumi(stack, "stack", "import", "--file", str(empty))
    back = command("pulumi stack import --stack {} --file {}", stack, path)
    project.notify(f"the old state is in {path}; to go back, run {back} with the version of rackwright that wrote it")
    return path


def find_undeclared(deployment: Mapping[str, Any], declared: Container[str]) -> list[str]:
    """Return the names of resources in *deployment* that the stack does not declare any more."""
    names = (_name(resource) for resource in state_format.managed_resources(deployment))
    return [name for name in names if name not in declared]


def _name(resource: Mapping[str, Any]) -> str:
    return str(resource["urn"].rpartition("::")[2])


def _unread_hosts(stack: "Stack", hosts: Iterable[str], evidence: "Evidence") -> Iterator[Diagnostic]:
    from rackwright.facts.facts import Facts

    note = "the resources of each host in the old state must be taken over"
    for host in hosts:
        if host not in stack.fleet.hosts:
            continue  # retired, or no longer declared: its resources stay on it unchanged
        if text := stack.maintenance.get(host):
            yield Diagnostic(
                host, f"the host is {text}", help="Wait, or remove `maintenance` from the fleet", note=note
            )
        elif not isinstance(found := evidence[host], Facts):
            forget = command("rackwright host forget {} {}", stack.name, host)
            help = f"Bring the host back; if it never comes back, run {forget}"
            yield Diagnostic(host, found.diagnostic.problem, help=help, note=note)


def _lost_data(stack: "Stack", result: "AuditResult", evidence: "Evidence") -> Iterator[Diagnostic]:
    from rackwright.facts.facts import Facts
    from rackwright.stack import declare

    declared = next(each for each in declare(stack) if each.name == result.name)
    facts = evidence.get(declared.source)
    if not result.differences or not isinstance(facts, Facts):
        return
    differences, _ = split_overrides(result.differences)
    if declared.kind.plan(declared.spec, differences, facts, stack.repository).creates:
        problem = "the old state has this resource, and its host does not: the next `up` would create it again"
        note = "rackwright creates nothing over lost data"
        help = "Restore it; or remove it from the fleet, run this again, and then declare it again"
        yield Diagnostic(result.name, problem, help=help, note=note)


def _write_once(path: Path, content: str) -> None:
    """Write *content* to *path*, which is absent or has that content already from an interrupted call."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8") as file:  # only its owner may read it
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            if path.read_text(encoding="utf-8") != content:
                problem, note = "the file has another state", "a state that was set aside is never overwritten"
                help = "Move the file to another directory, and run the command again"
                raise ChangeRefused(Diagnostic(str(path), problem, help=help, note=note)) from None
    fsync_directory(path.parent)
