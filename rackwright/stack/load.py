"""Loading of stacks from their settings and fleets, with all errors at once."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rackwright import locations
from rackwright.core.repository import Repository, Roles, load_templates
from rackwright.errors import DeclarationError, Diagnostic, collect
from rackwright.fleet.load import load_fleet
from rackwright.fleet.lockfile import load_lock, lock_path
from rackwright.fleet.source import read
from rackwright.locations import relative_path
from rackwright.schema import secret
from rackwright.schema.fleet import Fleet
from rackwright.schema.problem import Problem
from rackwright.schema.released import WITHOUT
from rackwright.schema.twin import twin_of
from rackwright.stack import environment_names, passphrase, published, store_urls
from rackwright.stack.endpoints import rack_endpoint, twin_endpoints
from rackwright.stack.salt import salt
from rackwright.stack.secret_settings import read_secret_lengths
from rackwright.stack.settings import (
    CONTAINERS,
    ENVIRONMENTS,
    LISTS,
    MIRRORS,
    RACK,
    TWIN,
    WORKLOADS,
    check_list,
    lends,
    load_list,
    loan_notices,
    settings,
    settings_file,
    settings_source,
    stack_of_twin,
)
from rackwright.stack.stack import Stack, secret_references


def load_stack(name: str, project: Path, whole: bool = False) -> Stack:
    """Return the stack *name* of the project in *project*.

    Args:
        whole: Whether a twin has all runs and servers, also those whose environment its hosts do not have.

    Raises:
        DeclarationError: all errors of its settings or its fleet, with places.
    """
    values = settings(name, project)
    path = project.resolve() / "stacks" / values["fleet"]
    virtual = values["target"].startswith(TWIN)
    wrong: list[Diagnostic] = []
    """The errors of all parts that can be read without another part which is wrong."""
    if not virtual:
        with collect(wrong):
            passphrase.check(settings_source(name, project), name, project.resolve())
    secret_lengths: dict[str, int | None] | None = None
    with collect(wrong):
        secret_lengths = read_secret_lengths(name, project)

    forms: dict[str, secret.Form] = {}

    def check_secret(reference: str, shortest: int, form: secret.Form | None = None) -> Problem | None:
        if form and form.is_parsed:
            forms[reference] = form
        if secret_lengths is None:
            return None
        if reference in secret_lengths:
            return secret.length_problem(name, reference, secret_lengths.get(reference), shortest, form)
        return secret.missing_problem(name, reference, form, virtual)

    twin_stack = stack_of_twin(name, project, values["target"])
    if twin_stack != name and not _uses(path):
        twin_stack = name
    lists: dict[str, tuple[str, ...] | None] = dict.fromkeys(LISTS)
    for setting in lists:
        with collect(wrong):
            lists[setting] = load_list(setting, twin_stack, project, values["target"])
    without = lists[WITHOUT] or ()
    files = locations.repository()
    roles = Roles(files)
    fleet: Fleet | None = None
    with collect(wrong):
        fleet = load_fleet(relative_path(path), roles, check_secret, without=without)
    if not virtual:
        with collect(wrong):
            published.check(relative_path(path), fleet)
    if fleet is None or secret_lengths is None:
        raise DeclarationError(*wrong)
    made = environment_names.choices(roles)
    for setting, names in lists.items():
        with collect(wrong):
            known = made if setting == ENVIRONMENTS else fleet.hosts
            check_list(setting, names or (), settings_source(twin_stack, project), known)
    retired = frozenset(name for name, host in fleet.hosts.items() if host.retired)
    fleet = fleet.model_copy(update={"hosts": {n: host for n, host in fleet.hosts.items() if n not in retired}})
    maintenance = _maintenance(fleet, datetime.now(UTC))
    containers = frozenset(lists[CONTAINERS] or ()) - retired
    unchanged = {**maintenance, **dict.fromkeys(sorted(retired - {*without}), "retired, and left as it is")}
    unchanged |= dict.fromkeys(sorted(without), "left out of the twin")
    host_notices = tuple(f"{host}: {text}" for host, text in unchanged.items())
    # a host has one key of digests, which an auditor's probe accepts, for all fleets that declare things on the host
    key = salt(read(relative_path(path.with_name(fleet.uses))).data["fleet"] if fleet.uses else fleet.fleet, project)
    derived_values = (
        {each: secret.derive_value(each) for each in secret_references(fleet) - secret_lengths.keys()}
        if virtual
        else {}
    )
    repository = Repository(load_templates(files), roles, key, derived_values, root=files)
    lends_mirrors = lends_workloads = False
    urls: Mapping[str, str] = {}
    with collect(wrong):
        lends_mirrors = lends(MIRRORS, twin_stack, project, virtual)
    with collect(wrong):
        lends_workloads = lends(WORKLOADS, twin_stack, project, virtual)
    with collect(wrong):
        urls = store_urls.load(settings_source(name, project), fleet, virtual)
    fleet_file, path = relative_path(path), path.with_name(fleet.uses or path.name)
    lock_file, lock = relative_path(lock_path(path)), None
    with collect(wrong):
        lock = load_lock(lock_file)
    if wrong:
        raise DeclarationError(*wrong)
    without_loan = loan_notices(fleet, containers) if lends_workloads else ()
    vendor_keys = (lock.vendor_keys if lock else None) or {}
    tiers = {host: spec.tiers for host, spec in fleet.hosts.items()}
    shared: dict[str, Any] = {
        "name": name, "project": project, "repository": repository, "salt": key, "fleet_file": fleet_file, "lock": lock,
        "lock_file": lock_file, "maintenance": maintenance, "retired": retired, "store_urls": urls, "tiers": tiers,
        "vendor_keys": vendor_keys, "secret_forms": forms,
    }  # fmt: skip
    if not virtual:
        pins = path.with_suffix(".known_hosts")
        endpoints = {host: rack_endpoint(host, spec, pins) for host, spec in fleet.hosts.items()}
        return Stack(fleet=fleet, endpoints=endpoints, notices=host_notices, **shared)
    twin = values["target"].removeprefix(TWIN)
    endpoints = twin_endpoints(project.resolve() / ".rackwright" / "twins" / twin)
    kept = fleet if whole else environment_names.keep(fleet, lists[ENVIRONMENTS], roles)
    scaled, notices = twin_of(kept, containers)
    notices = (
        *notices,
        *environment_names.notices(fleet, kept),
        *without_loan,
        *store_urls.notices(fleet, urls),
        *_cluster_notices(fleet),
        *host_notices,
    )
    return Stack(
        fleet=scaled,
        endpoints=endpoints,
        twin=twin,
        containers=containers,
        lends_mirrors=lends_mirrors,
        lends_workloads=lends_workloads,
        is_whole=kept is fleet,
        notices=notices,
        store_hosts=store_urls.hosts(fleet, urls),
        **shared,
    )


def _uses(fleet: Path) -> bool:
    """Return whether a fleet uses the hosts of another; a file with errors, which its loader reports, does not."""
    with contextlib.suppress(DeclarationError):
        return fleet.suffix == ".yaml" and "uses" in read(relative_path(fleet)).data
    return False


def neighbours(stack: Stack) -> Iterator[Stack]:
    """Yield the other stacks of the project with runs or servers on the hosts of *stack*.

    Stacks with errors are left out: their own check reports them.
    """
    target = RACK if stack.twin is None else f"{TWIN}{stack.twin}"
    if not settings_file(stack.name, stack.project).is_file():
        return  # a stack without a project
    own = settings(stack.name, stack.project)["fleet"]
    hosts = stack.fleet_file.with_name(stack.fleet.uses or stack.fleet_file.name).resolve()
    for name in locations.stack_names(stack.project):
        with contextlib.suppress(DeclarationError):
            values = settings(name, stack.project)
            path = stack.project / "stacks" / values["fleet"]
            if values["target"] != target or values["fleet"] == own or path.suffix != ".yaml":
                continue
            used = read(path).data.get("uses")
            if used is not None and (path.parent / str(used)).resolve() == hosts:
                yield load_stack(name, stack.project)


def _cluster_notices(fleet: Fleet) -> Iterator[str]:
    """Yield a notice for each cluster that a virtual rack leaves out."""
    for name, cluster in fleet.clusters.items():
        if cluster.api:
            yield f"the cluster {name} is left out: others made it, and the twin has no part in it"


def _maintenance(fleet: Fleet, now: datetime) -> dict[str, str]:
    """Return the hosts that are in maintenance at *now*, each with the text for reports."""
    declared = {name: host.maintenance for name, host in fleet.hosts.items()}
    return {name: entry.text for name, entry in declared.items() if entry and entry.is_active(now)}
