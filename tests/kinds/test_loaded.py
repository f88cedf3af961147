"""A service that is older than a file it reads is a difference of its role, and the play restarts it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import pytest
from pydantic import ValidationError

from rackwright.core import diff as comparison
from rackwright.core.contract import PlayRole, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.entries.files import FileEntry
from rackwright.kinds.role.spec import RoleSpec
from rackwright.kinds.shared import loaded
from tests.support.our_roles import ROLES
from tests.support.role_spec import REPOSITORY, SOURCE, SPEC, good

UNIT, MOTD, ISSUE = "toyd.service", "/etc/motd", "/etc/issue"
KIND = RoleKind()
SECOND = 10**9
READ_ELSEWHERE = {
    "*/etc/systemd/system/*": "systemd reads it, as `overrides` shows; an active service, too, as reads.py claims",
    "/usr/local/*": "each start reads it again",
    "/etc/apt/*": "apt reads it each time that it starts",
    "/etc/ld.so.conf.d/*": "ldconfig reads it each time that it starts",
    "/etc/default/grub.d/*": "update-grub reads it; the kernel's parameters are claimed themselves",
    "/etc/sysctl.d/*": "the kernel's settings are claimed themselves",
    "/etc/modprobe.d/*": "the loaded modules are claimed themselves",
    "/etc/modules-load.d/*": "the loaded modules are claimed themselves",
    "/etc/udev/rules.d/*": "udev reads changed rules by itself. Source: udev(7)",
    "/etc/security/limits.d/*": "PAM reads it at each login",
    "/etc/systemd/system.conf.d/*": "systemd itself reads it, as the role has it do",
    "/etc/profile.d/*": "shells read it at each login",
    "/etc/sudoers*": "sudo reads it at each call",
    "/etc/pam.d/*": "PAM reads it at each login",
    "/etc/ssh/authorized_keys.d/*": "sshd reads it at each login",
    "/etc/ssh/rackwright_*": "sshd reads it at each login",
    "/etc/audit/rules.d/*": "the kernel has the rules, which augenrules loads",
    "/etc/hostname": "the kernel's name is claimed itself",
    "/etc/timezone": "programs read it when they start",
    "/etc/default/locale": "PAM reads it at each login",
    "/etc/containers/*": "podman reads it each time that it starts",
    "/etc/containerd/certs.d/*": "containerd reads it at each pull",
    "/etc/cni/net.d/*": "containerd watches the directory",
    "/opt/rackwright/images/*": "podman reads it when it builds the image",
    "/opt/rackwright/*/*.txt": "pip reads it once",
    "/opt/rackwright/*/pip.conf": "pip reads it once",
    "/opt/rackwright/workloads/*": "the build reads it once",
    "/opt/rackwright/object_store/*.py": "each start reads it again",
    "/opt/rackwright/mlflow/accounts.py": "a service runs it that ends",
    "/opt/rackwright/mlflow/answers.py": "it runs once at each start of the server",
    "/etc/rackwright/mlflow/accounts.json": "a service reads it that ends",
    "/etc/rackwright/postgresql/accounts.sql": "a service reads it that ends",
    "/etc/rackwright/health_exporter/services.json": "the service of each connection reads it",
    "/etc/rackwright/quarantine_receiver/*": "the program of each message reads it",
    "/etc/rackwright/quarantine_reader/*": "the program reads it each time that it starts",
    "/etc/rackwright/scheduled_audit/key": "systemd reads it at each start of a service that ends",
    "/etc/rackwright/mlflow/tls.cnf": "openssl reads it once",
    "/etc/rackwright/registry/accounts": "the registry reads it again after each change",
    "/etc/rackwright/registry/readers": "the registry reads it again after each change",
    "/etc/rackwright/kubernetes/kubeadm.yaml": "kubeadm reads it each time that it starts",
    "/etc/rackwright/kubernetes/snapshot.key": "a service reads it that ends",
    "/etc/rackwright/kubernetes-teams.nft": "the rules of the kernel are claimed themselves",
    "/etc/rackwright/prometheus/clients.nft": "the rules of the kernel are claimed themselves",
    "/etc/rackwright/drain.d/*": "each start reads it again",
    "*{{*authfile*": "podman reads it at each pull",
}
"""Files of roles that no running service has in its memory, by pattern, each with the reason."""


def entries(source: Any) -> Iterator[dict[str, Any]]:
    yield from (dict(entry) for entry in source.claims if "file" in entry)


@pytest.mark.parametrize("source", ROLES.values(), ids=[*ROLES])
def test_each_file_of_a_role_names_the_services_that_read_it_or_has_a_reason(source: Any) -> None:
    without = [
        entry["file"]
        for entry in entries(source)
        if "read_by" not in entry and not any(fnmatch(entry["file"], pattern) for pattern in READ_ELSEWHERE)
    ]

    assert without == []


def test_each_reason_is_needed() -> None:
    files = [entry["file"] for source in ROLES.values() for entry in entries(source) if "read_by" not in entry]

    assert [pattern for pattern in READ_ELSEWHERE if not any(fnmatch(file, pattern) for file in files)] == []


@pytest.mark.parametrize("source", ROLES.values(), ids=[*ROLES])
def test_the_tasks_of_a_role_with_such_services_restart_them(source: Any) -> None:
    reads = any("read_by" in entry for entry in entries(source)) or any(
        str(entry.get("unit", "")).endswith(".service") and "active" not in entry for entry in source.claims
    )
    tasks = "".join(path.read_text() for path in sorted(_folder(source.name).glob("*.yml")))

    assert not reads or re.search(rf"\b{source.name}_outdated\b", tasks)


def _folder(role: str) -> Any:
    from tests.support.our_roles import ROOT

    return ROOT / "roles" / role / "tasks"


def repository(*claims: dict[str, Any]) -> Any:
    source = replace(SOURCE, claims=({"file": MOTD, "mode": "0640", "read_by": [UNIT]}, *claims))
    return replace(REPOSITORY, roles={"toy": source})


def raw(changed: dict[str, int], **service: Any) -> dict[str, Any]:
    began = {"started_ns": 100 * SECOND, "loaded_ns": 100 * SECOND, "program_replaced": False}
    return {**good(), "taken_at": 1000.0, "changed_files": changed, "loads": {UNIT: {**began, **service}}}


def found(facts: dict[str, Any], *claims: dict[str, Any]) -> dict[str, Any]:
    """Return the differences in what services have read."""
    made = KIND.claims(SPEC, repository(*claims))
    differences = comparison.diff(made, KIND.observe(made, Facts(facts)))
    return {item.thing: item.actual for item in differences if item.thing.startswith("read:")}


OF_FILE, OF_UNIT, OF_PROGRAM = (f"read:{UNIT}:{what}" for what in (MOTD, f"/etc/systemd/system/{UNIT}", "program"))
RUNS = {"unit": UNIT}
UNIT_FILE = {"file": f"/etc/systemd/system/{UNIT}", "content": "[Service]"}


@pytest.mark.parametrize(
    ("changed", "service", "expected"),
    [
        ({}, {}, {}),
        ({MOTD: 99 * SECOND}, {}, {}),
        ({MOTD: 101 * SECOND}, {}, {OF_FILE: "earlier"}),
        ({MOTD: 101 * SECOND}, {"loaded_ns": 102 * SECOND}, {}),
        ({UNIT_FILE["file"]: 101 * SECOND}, {"loaded_ns": 102 * SECOND}, {OF_UNIT: "earlier"}),
        ({UNIT_FILE["file"]: 99 * SECOND}, {}, {}),
        ({}, {"program_replaced": True}, {OF_PROGRAM: "earlier"}),
        ({ISSUE: 101 * SECOND}, {}, {}),
    ],
)
def test_a_file_that_changed_after_it_was_read_is_an_earlier_one(
    changed: dict[str, int], service: dict[str, Any], expected: dict[str, str]
) -> None:
    assert found(raw(changed, **service), RUNS, UNIT_FILE) == expected


@pytest.mark.parametrize(
    ("spans", "is_earlier"),
    [
        ([[90, 110]], False),
        ([[90, 100]], False),
        ([[100, 300]], False),
        ([[10, 20], [90, 110]], False),
        ([], True),
        ([[90, 99]], True),
        ([[101, 110]], True),
    ],
)
def test_a_file_that_had_its_content_when_it_was_read_was_only_touched(spans: Any, is_earlier: bool) -> None:
    """
    After `touch` or `chmod` to the same mode, the audit asked for a restart of the service.
    """
    facts = raw({MOTD: 200 * SECOND})
    facts["same_content"] = {MOTD: [[start * SECOND, end * SECOND] for start, end in spans]}
    assert found(facts, RUNS) == ({OF_FILE: "earlier"} if is_earlier else {})


def test_a_service_that_does_not_run_has_read_nothing() -> None:
    facts = raw({MOTD: 101 * SECOND})
    facts["loads"] = {}
    facts["units"][UNIT]["active"] = "inactive"

    assert found(facts, RUNS) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.__setitem__("loads", {}),
        lambda facts: facts.pop("changed_files"),
        lambda facts: facts.pop("same_content"),
        lambda facts: facts["same_content"].__setitem__(MOTD, [[1], "x"]),
        lambda facts: facts["changed_files"].__setitem__(MOTD, 2000 * SECOND),
        lambda facts: facts["changed_files"].__setitem__(MOTD, True),
        lambda facts: facts["loads"].__setitem__(UNIT, {"unknown": "systemd does not know"}),
    ],
)
def test_what_was_not_seen_is_unknown(change: Any) -> None:
    facts = raw({MOTD: 101 * SECOND})
    change(facts)

    assert isinstance(found(facts, RUNS)[OF_FILE], UnknownValue)


def test_the_play_is_given_the_services_and_restarts_them() -> None:
    changed = {MOTD: 101 * SECOND}
    assert _outdated(raw(changed)) == {UNIT: "reloaded"}
    assert _outdated(raw(changed, program_replaced=True)) == {UNIT: "restarted"}
    assert _outdated(raw({})) is None


def _outdated(facts: dict[str, Any], spec: RoleSpec = SPEC) -> dict[str, str] | None:
    made = KIND.claims(spec, repository(RUNS))
    differences = [
        item for item in comparison.diff(made, KIND.observe(made, Facts(facts))) if item.thing.startswith("read:")
    ]
    plan = KIND.plan(spec, differences, Facts(facts), repository(RUNS))
    plays = [step for step in plan.steps if isinstance(step, PlayRole)]
    assert not plays or UNIT in plays[0].text
    outdated: dict[str, str] | None = plays[0].variables["toy_outdated"] if plays else None
    return outdated


def test_unit_and_path_are_read_back() -> None:
    for unit in ("ssh.service", "pod:kube-apiserver", "getty@tty1.service"):
        [claim] = loaded.claims(unit, ["/etc/x"])
        assert loaded.split(claim.thing) == (unit, "/etc/x")


def test_a_reader_without_processes_is_no_reader() -> None:
    """The facts have no start of a socket unit: its claim stayed unknown after each `up`."""
    with pytest.raises(ValidationError, match="read_by"):
        FileEntry(file="/etc/x", content="", read_by=("x.socket",))
    assert FileEntry(file="/etc/x", content="", read_by=("x.service", "pod:etcd")).read_by
