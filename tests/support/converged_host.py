"""A host of the twin that was just converged, recorded, and its declaration."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.rule import Rule
from rackwright.audit.undeclared.search import apply
from rackwright.facts.facts import Facts
from rackwright.facts.log_chain import SeenHead
from rackwright.schema.host import Drive, Host, Identity
from rackwright.schema.network import Network, Route
from rackwright.schema.port import Nic
from rackwright.stack.stack import TWIN_FILES
from tests.support.inventory import ACCOUNT_FILES, BEHAVIOUR, BOOT, INTEGRITY, PACKAGE_DATABASE

HERE = Path(__file__).parents[1] / "audit" / "undeclared"
SEEDED = HERE / "seeded.json"
"""Facts of the same host after people put undeclared things there."""
_CONVERGED: Any = json.loads((HERE / "converged.json").read_text())
WANTS: Mapping[str, Mapping[str, Any]] = {
    thing: dict.fromkeys(names, True) for thing, names in _CONVERGED["wants"].items()
}
OWN: Mapping[str, Mapping[str, Any]] = {
    "link:fabric0": {"up": True},
    "route:198.51.100.0/24": {"via": "10.32.0.254"},
    "unit:tidy.service": {"state": "static"},
}
LOG_CHAIN = {"id": "c0", "number": 7, "time": "2026-11-29T08:00:00Z", "hashes": "f" * 32, "breaks": []}
BLANK: dict[str, Any] = {"signatures": [], "parts": [], "holders": [], "mountpoints": [], "superblock": None}
"""A drive without content."""


def converged() -> dict[str, Any]:
    """Return raw facts of the host after `up`, with two blank drives that it did not have; a copy for each caller."""
    raw: dict[str, Any] = copy.deepcopy(_CONVERGED["facts"])
    drives = [{**copy.deepcopy(BLANK), "name": name, "serial": name.upper()} for name in ("sda", "sdb")]
    return with_unrecorded({**raw, "drives": drives, "sysctls": {**raw["sysctls"], "kernel.numa_balancing": "0"}})


def with_unrecorded(raw: dict[str, Any]) -> dict[str, Any]:
    """Return *raw* with the facts that no probe read when it was recorded: no packet filter, export or principal."""
    for login in raw["login_keys"].values():
        login.update(principals={}, principals_command="none", methods=[])
    later: dict[str, Any] = {
        "shadowing_programs": [],
        "packet_filters": [],
        "nfs_exports": [],
        "kernel_names": {},
        "gpus": [],
        "other_environments": {},
        "secure_boot": None,
    }
    later |= {"dead_routes": [], "mappings": [], "boot_id": "b", "trials": {}, "step_units": {}}
    return {
        **raw,
        **later,
        **copy.deepcopy(BEHAVIOUR),
        "boot": copy.deepcopy(BOOT),
        "account_files": copy.deepcopy(ACCOUNT_FILES),
        "package_database": copy.deepcopy(PACKAGE_DATABASE),
        "integrity": {**copy.deepcopy(INTEGRITY), "rendered": [*INTEGRITY["rendered"], *enabled_units(raw)]},
        "clock_offset_seconds": 0.0,
        "finished_at": 1796000000.0,
        "log_chain": LOG_CHAIN,
    }


def enabled_units(raw: dict[str, Any]) -> list[str]:
    """Return the links by which packaged units start, as the probe has compared them on this host."""
    entries = {path: each for path, each in raw["files"].items() if isinstance(each, dict)}
    packaged = ("-> /lib/systemd/system/", "-> /usr/lib/systemd/system/")
    return sorted(path for path, each in entries.items() if str(each.get("digest")).startswith(packaged))


def declared(**wants: Mapping[str, Any]) -> HostDeclaration:
    """Return the declaration of the host, with a network, a drive of a tier and a drive without one."""
    return _declaration(wants) if wants else _usual()


@cache
def _usual() -> HostDeclaration:
    return _declaration({})  # thousands of cases compare with it, and none can change it


def _declaration(wants: Mapping[str, Mapping[str, Any]]) -> HostDeclaration:
    host = Host(
        address="192.0.2.1",
        identity=Identity(serial="S-ALPHA"),
        os="debian-12",
        drives=(Drive(serial="SDA"), Drive(serial="SDB")),
        nics=(Nic(name="fabric0", mac="52:54:00:00:04:01", addresses=("10.32.0.1/24",)),),
        network=Network(routes=(Route(to="198.51.100.0/24", via="10.32.0.254"),)),
        roles={"rdma": {}},
    )
    own: dict[str, Mapping[str, Any]] = {**WANTS, **OWN, **wants}
    ids = frozenset(f"alpha/{name}" for name in ("base", "access", "rdma", "node_exporter"))
    seen = (SeenHead({"chain": "c0", "number": 7, "hash": "f" * 32}, 1795990000.0),)
    accounts = frozenset(("rackwright",))
    return HostDeclaration(
        "alpha", "software", host, own, ids, frozenset(("alpha", "beta")), accounts, TWIN_FILES, seen_heads=seen
    )


def with_more(declaration: HostDeclaration, thing: str, *names: str) -> HostDeclaration:
    """Return *declaration* with a claim on *names* of *thing*."""
    return replace(declaration, wants={**declaration.wants, thing: dict.fromkeys(names or ("present",), True)})


def found(rule: Rule, raw: dict[str, Any], declaration: Any = None) -> list[tuple[str, bool]]:
    """Return the things that *rule* finds on a host with the facts *raw*, and whether each is unknown."""
    return [(finding.thing, unknown) for finding, unknown in apply(rule, Facts(raw), declaration or declared())]
