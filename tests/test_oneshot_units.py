"""No claim rests on the state of a oneshot unit: it says that a command ended, and not that its effect is there."""

import re
from collections.abc import Iterator

from rackwright.core import contract
from rackwright.core.repository import ACCEPTED, UNVERIFIED
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.recorded_hosts import RESOURCES, STACK
from tests.support.unit_files import FURTHER, NEEDED, REPOSITORY, services

EFFECTS = {
    "rackwright-kubernetes-teams.service": ("nftables:rackwright_teams", "the rules of the kernel"),
    "rackwright-prometheus-clients.service": ("nftables:rackwright_prometheus", "the rules of the kernel"),
    "rackwright-jetson-clocks.service": ("reading:", "the clocks"),
    "rackwright-acs.service": ("bridges:", "bridges that redirect"),
    "rackwright-gpus.service": ("gpu:", "the settings of the GPUs"),
    "mlflow-accounts.service": ("accounts:", "the accounts of the server's database"),
    "rackwright-gpu-metrics.service": ("file:/var/lib/prometheus/node-exporter/rackwright_gpus.prom", "the metrics"),
    "rackwright-drive-metrics.service": (
        "file:/var/lib/prometheus/node-exporter/rackwright_drives.prom",
        "the metrics",
    ),
    "rackwright-cluster-metrics.service": (
        "file:/var/lib/prometheus/node-exporter/rackwright_cluster.prom",
        "the metrics",
    ),
    "rackwright-cdi.service": ("file:/usr/local/sbin/rackwright-cdi", "on hosts with NVIDIA's GPUs cdi:nvidia.com/gpu"),
}
"""The claim about the effect of each oneshot unit that is claimed itself, by the beginning of its name."""
NO_EFFECT = {
    "rackwright-quarantine-reader.service": "it follows verdicts, which change; the timer is claimed",
    "rackwright-quarantine-end.service": "its effect comes at its stop, with the removal of the role",
    "registry-collect.service": "it frees room, at times that its timer has; the timer is claimed",
}
"""Oneshot units without an effect that lasts."""
STARTED_AT_BOOT = ("unlock", "scrub", "watch")
"""Beginnings of units of kinds, whose arrays, mappings and servers are claims; their timers are claimed, not they."""


def oneshots() -> set[str]:
    """Return the names of the oneshot units, as their templates have them."""
    found = (name for name, text in services().items() if re.search(r"(?m)^Type=oneshot$", text))
    return {name.rpartition("/")[2].removesuffix(".j2") for name in found}


def claimed() -> Iterator[dict[str, contract.Claim]]:
    """Yield the claims of each resource and role, by their things."""
    for declared in RESOURCES.values():
        yield {each.thing: each for each in contract.claims(declared.kind, declared.spec, STACK.repository)}
    for name, source in REPOSITORY.roles.items():
        variables = {**NEEDED.get(name, {}), **({UNVERIFIED: ACCEPTED} if source.unverified_reason else {})}
        about = AboutHost(name="alpha", os=next(iter(source.by_os)), profile="virtual")
        for more in ({}, *([FURTHER[name]] if name in FURTHER else ())):
            spec = RoleSpec(
                host="alpha", role=name, identity={}, about=about, fleet=AboutFleet(name="lab"),
                variables={**variables, **more},
            )  # fmt: skip
            entries = promises(spec, REPOSITORY).entries
            yield {entry.thing: entry.claim(REPOSITORY) for entry in entries}


def test_every_oneshot_unit_that_is_claimed_has_a_claim_of_its_effect() -> None:
    units, seen = oneshots(), set[str]()
    for claims in claimed():
        for unit in units & {thing.removeprefix("unit:") for thing in claims if thing.startswith("unit:")}:
            if unit in NO_EFFECT:
                continue
            beginning, _ = EFFECTS[unit]
            assert [thing for thing in claims if thing.startswith(beginning)], f"{unit}: no claim of {beginning}"
            seen.add(unit)
    assert seen == {*EFFECTS}, "a unit of the list is no longer claimed"


def test_no_resource_claims_that_a_oneshot_unit_of_a_kind_is_active() -> None:
    for claims in claimed():
        for thing, claim in claims.items():
            name = thing.removeprefix("unit:")
            if thing.startswith("unit:") and name.startswith(STARTED_AT_BOOT) and name.endswith(".service"):
                assert claim.want.get("active") in (None, "inactive"), thing


def test_the_earlier_unit_of_routes_would_be_found() -> None:
    """
    A oneshot unit that added routes was active, and the routes were gone.
    """
    assert "rackwright-kubernetes-routes.service" not in oneshots()
    assert "rackwright-kubernetes-routes.service" not in {*EFFECTS, *NO_EFFECT}
    [routes] = [text for name, text in services().items() if "kubernetes-routes" in name]
    assert "\nType=exec\n" in routes
