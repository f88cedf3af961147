"""The account of files: what declared things trust, settings in other places, rights, and a whole account."""

import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rackwright.audit.undeclared.generated import KNOWN_FILES
from rackwright.facts import snapshot
from tests.support.acceptance import line
from tests.support.account_lab import LABS, NOT_HERE
from tests.support.audit_lab import findings
from tests.support.chroot_system import ChrootSystem
from tests.support.expect import need
from tests.support.file_seeds import PLACES, RIGHTS, SILENT, TRUSTED
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.our_roles import ROLES
from tests.support.pytest_runs import run_tests

Seeds = Mapping[str, tuple[str, str]]


@pytest.fixture
def system():
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("an overlay needs root")
    with ChrootSystem.make() as system:
        yield system


def _find_all(log: Log, system: ChrootSystem, seeds: Seeds) -> str:
    """Put *seeds* on the system; each one is one row with its rule, and there is no other row."""
    before = system.findings()
    need(not before, f"found without a seed: {before}")
    for thing, (_, script) in seeds.items():
        log.write(f"{thing}: {script}")
        system.shell(script)
    found = system.findings()
    missed = [thing for thing in seeds if thing not in found]
    need(not missed, f"not found: {missed}")
    wrong = {thing: found[thing] for thing, (rule, _) in seeds.items() if not found[thing].startswith(rule)}
    need(not wrong, f"found by another rule: {wrong}")
    more = {thing: text for thing, text in found.items() if thing not in seeds}
    need(not more, f"found besides: {more}")
    unknown = system.reasons()
    need(not unknown, f"unknown: {unknown}")
    return f"{len(seeds)} of {len(seeds)} found, one row each, nothing else"


@line("hardening2", "truth2", part="trusted")
def test_files_that_declared_things_trust_are_found(log: Log, system: ChrootSystem) -> str:
    return _find_all(log, system, TRUSTED)


@line("hardening2", "truth2", part="places")
def test_settings_in_other_places_are_found(log: Log, system: ChrootSystem) -> str:
    return _find_all(log, system, PLACES)


@line("hardening2", "truth2", part="rights")
def test_rights_that_no_set_uid_bit_shows_are_found(log: Log, system: ChrootSystem) -> str:
    return _find_all(log, system, RIGHTS)


@line("hardening2", "truth2", part="silent")
def test_changes_by_packages_and_their_programs_are_not_found(log: Log, system: ChrootSystem) -> str:
    for name, script in SILENT.items():
        log(name)
        system.shell(script)
        found = system.findings()
        need(not found, f"{name}: {found}")
    return f"{len(SILENT)} changes, nothing found"


@line("hardening2", "truth2", part="account")
def test_converged_hosts_have_an_account_of_all_files_and_nothing_else(log: Log) -> str:
    """Containers with all roles that converge there, and a file beside those of each pattern of known files."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    roles, counts = {"base", "node_exporter"}, []
    for name, (open_lab, on_hosts) in LABS.items():
        log(f"hosts with {name}")
        roles |= {role for names in on_hosts.values() for role in names}
        with open_lab(log) as lab:
            counts += _account(lab, log.directory / name.replace(" ", "-"))
    listed = [*sorted(roles), *NOT_HERE]
    need(sorted(listed) == sorted(ROLES), f"not in one list alone: {sorted({*listed} ^ {*ROLES})}")
    beside = run_tests(log, "tests/audit/undeclared/test_integrity.py", "-k", "beside_those or are_counted")
    return (
        f"{', '.join(map(str, counts))} files on hosts with {len(roles)} roles ({', '.join(sorted(roles))}): nothing "
        f"found; {len(KNOWN_FILES)} patterns of known files, a file beside each: {beside}; not here: {len(NOT_HERE)}"
    )


def _account(lab: Lab, saved: Path) -> list[int]:
    """Require a clean audit of the hosts with a whole account, and return the number of files of each host."""
    done = lab.rackwright("audit", lab.stack, "--json", "--save", str(saved))
    report = json.loads(done.stdout)
    need(report["exit_status"] == 0, f"the converged hosts are not as declared: {findings(report)}")
    counts = []
    for host, facts in snapshot.load(saved, datetime.now(UTC)).items():
        if (account := facts.integrity) is None:
            continue
        need(account.packaged > 7000, f"{host}: {account.packaged} packaged files")
        need(not account.pending and not account.left_out, f"{host}: {account.pending}, {account.left_out}")
        counts.append(account.packaged + account.derived + len(account.files) + len(facts.unpackaged))
    return counts
