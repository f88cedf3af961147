"""Every service unit that rackwright writes to hosts, rendered with sample values."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rackwright.core.repository import ACCEPTED, UNVERIFIED, Repository
from rackwright.kinds.model_server.files import files as files_of_server
from rackwright.kinds.model_server.spec import CanaryRows, ServerSpec
from rackwright.kinds.pods import mounts
from rackwright.kinds.role.entries.files import FileEntry
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.kinds.shared import guard
from rackwright.kinds.shared.service_account import UNITS, ServiceFile
from rackwright.kinds.tier import luks, scrub
from rackwright.kinds.tier.spec import TierSpec
from rackwright.kinds.training_run.files import files as files_of_run
from rackwright.kinds.training_run.spec import TrainingSpec
from rackwright.schema.server import Canary
from tests.support.pod_workloads import TRAINING
from tests.support.recorded_hosts import RESOURCES, STACK
from tests.support.specs import changed

ROOT = Path(__file__).parents[2]
REPOSITORY = Repository.load(ROOT, b"salt", {"tests_password": "of the tests"})
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "jetson": {"clocks": True},
    "kubernetes_control_plane": {
        "snapshot_directory": "/srv/warm",
        "snapshot_key": {"secret": "tests_password"},
        "encryption_key": {"secret": "tests_password"},
    },
    "kubernetes_node": {
        "nodes": [{"address": "192.0.2.12", "pod_network": "10.244.2.0/24"}],
        "pod_network": "10.244.1.0/24",
        "teams": [
            {"name": name, "first": first, "last": first, "networks": ["10.244.1.0/28", "10.244.2.0/28"]}
            for name, first in (("", "10.244.1.2"), ("vision", "10.244.1.16"))
        ],
    },
    "load_balancer": {"services": {"digits": {"port": 8080, "members": ["192.0.2.11:8080"]}}},
    "alertmanager": {
        "key": {"secret": "tests_password"},
        "receivers": [{"name": "operators", "url": {"secret": "tests_password"}}],
    },
    "metrics_proxy": {"key": {"secret": "tests_password"}, "exporters": {"node": 9100}},
    "journal_receiver": {"key": {"secret": "tests_password"}, "senders": {"gpu-01": ["192.0.2.11"]}},
    "journal_sender": {"key": {"secret": "tests_password"}, "address": "192.0.2.10"},
    "prometheus": {"key": {"secret": "tests_password"}},
    "quarantine_reader": {
        "key": {"secret": "tests_password"},
        "receiver": "gpu-01",
        "address": "192.0.2.11",
        "hosts": ["gpu-01", "gpu-02"],
        "share_percent": 50,
    },
    "quarantine_receiver": {
        "key": {"secret": "tests_password"},
        "readers": ["192.0.2.12"],
        "hosts": ["gpu-01", "gpu-02"],
        "share_percent": 50,
    },
    "mlflow": {"admin": {"name": "admin", "password": {"secret": "tests_password"}}},
    "postgresql": {
        "databases": [
            {"name": "a", "account": "a", "password": {"secret": "tests_password"}, "clients": ["192.0.2.11"]}
        ],
        "certificate": "-----BEGIN CERTIFICATE-----",
        "key": {"secret": "tests_password"},
        "backup_directory": "/srv/warm",
    },
    "rdma": {"acs": "off"},
    "registry": {
        "accounts": [
            {"name": name, "read_only": read_only, "password": {"secret": "tests_password"}}
            for name, read_only in (("builder", False), ("nodes", True))
        ],
        "key": {"secret": "tests_password"},
        "collect": "Sun 03:00",
    },
}
"""Variables without which a role writes no unit, or nothing at all."""
FURTHER: Mapping[str, Mapping[str, Any]] = {
    "object_store": {"address": "192.0.2.22", "gateway": "192.0.2.21"},
}
"""Variables of a second host of a role, which has units that the first has not."""
ROOT_OWNED = re.compile(
    r"/(etc|usr|bin|sbin|boot|opt/rackwright|var/cache|var/lib/(totp|rackwright/owners)|var/log/rackwright)/"
)
"""Directories in which root alone creates files."""
GUARD = "guard"
"""The key of the unit that no template has: `rackwright.kinds.shared.guard` writes it."""


@cache
def services() -> Mapping[str, str]:
    """Return the text of each service unit by its template below ``templates/``, with the samples of `NEEDED`."""
    return dict([*_of_roles(), *_of_tiers(), *_of_runs(), *_of_servers(), _of_pods(), (GUARD, _of_the_guard())])


def templates() -> set[str]:
    """Return the templates that are service units."""
    return {name for name, text in REPOSITORY.templates.items() if "\n[Service]\n" in text}


def values(text: str, directive: str) -> list[str]:
    """Return the values of *directive*, which may be a regular expression, in a unit's text, in their order."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return re.findall(rf"^(?:{directive})=(.*)$", joined, re.MULTILINE)


def _of_roles() -> Iterator[tuple[str, str]]:
    for name, source in REPOSITORY.roles.items():
        if not any(template.startswith(f"{name}/") for template in templates()):
            continue
        variables = {**NEEDED.get(name, {}), **({UNVERIFIED: ACCEPTED} if source.unverified_reason else {})}
        for more in ({}, *([FURTHER[name]] if name in FURTHER else ())):
            yield from _of_role(name, next(iter(source.by_os)), {**variables, **more})


def _of_role(name: str, os: Any, variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    about, fleet = AboutHost(name="alpha", os=os, profile="virtual"), AboutFleet(name="lab")
    spec = RoleSpec(host="alpha", role=name, identity={}, about=about, fleet=fleet, variables=dict(variables))
    for entry in promises(spec, REPOSITORY).entries:
        if (
            isinstance(entry, FileEntry)
            and isinstance(entry.content, str)
            and entry.file.startswith(UNITS)
            and entry.file.endswith(".service")
        ):
            yield entry.rendered_from, entry.content


def _of_tiers() -> Iterator[tuple[str, str]]:
    tiers = [each.spec for each in RESOURCES.values() if isinstance(each.spec, TierSpec)]
    encrypted = next(tier for tier in tiers if tier.declared.key is not None)
    yield f"tier{UNITS}/unlock.service.j2", luks.unit_text(encrypted, REPOSITORY)
    scrubbed, declared = next((tier, tier.declared.scrub) for tier in tiers if tier.declared.scrub)
    for path, text in scrub.texts(scrubbed, declared, REPOSITORY).items():
        if path.endswith(".service"):
            yield f"tier{UNITS}/scrub.service.j2", text


def _of_runs() -> Iterator[tuple[str, str]]:
    for spec in (each.spec for each in RESOURCES.values() if isinstance(each.spec, TrainingSpec)):
        unit = "run" if spec.host == spec.launcher_host.name else "door"
        [text] = _units(files_of_run(spec, STACK.repository))
        yield f"training_run{UNITS}/{unit}.service.j2", text


def _of_servers() -> Iterator[tuple[str, str]]:
    spec = next(each.spec for each in RESOURCES.values() if isinstance(each.spec, ServerSpec))
    canary = Canary(data="rows.npz", accuracy=0.9, every="15min", roll_back=True)
    rows = CanaryRows(source="/rows.npz", sha256="ef" * 32)
    watched = changed(spec, canary=canary, rows=rows)
    server, watching = _units(files_of_server(watched, STACK.repository))
    yield f"model_server{UNITS}/server.service.j2", server
    yield f"model_server{UNITS}/watch.service.j2", watching


def _of_pods() -> tuple[str, str]:
    first, *_ = _units(mounts.files(TRAINING, "id", STACK.repository))
    return f"pods{UNITS}/pods-mount.service.j2", first


def _units(files: Iterator[ServiceFile]) -> list[str]:
    return [str(file.content) for file in files if file.path.startswith(UNITS) and file.path.endswith(".service")]


def _of_the_guard() -> str:
    """Return the unit that takes a change back."""
    return guard.service_text("access")


@cache
def limits() -> Mapping[str, float]:
    """Return the highest exposure that each service unit may have."""
    table = yaml.safe_load((ROOT / "tests/units.yaml").read_text())
    exceptions = table["exceptions"]
    return {name: float(exceptions.get(name, table)["limit"]) for name in services()}


def exposure(output: str) -> float:
    """Return the exposure level in the output of `systemd-analyze security` for one unit."""
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
    assert match, output
    return float(match[1])
