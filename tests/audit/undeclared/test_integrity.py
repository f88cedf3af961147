"""The account of files: known files are narrow, one row for each file, and nothing that is unread passes for fine."""

import re
from typing import Any

import pytest

from rackwright.audit.undeclared.generated import CAPABILITIES, KNOWN_FILES, PRIVILEGES, maker_of
from rackwright.audit.undeclared.search import apply, search
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from tests.support.converged_host import converged, declared, with_more
from tests.support.rule_cases import FILE, odd_file, unpackaged

PLANTED = "planted-by-hand"


def found(raw: dict[str, Any], **wants: Any) -> list[str]:
    return [f"{rule.id} {finding.thing}" for rule, finding, _ in search(Facts(raw), declared(**wants))]


def folder_of(pattern: str) -> str:
    """Return the directory of the files that *pattern* names, with an example for each part that is no plain text."""
    part = re.split(r"[\\(\[]", pattern)[0]
    return part.rpartition("/")[0]


@pytest.mark.parametrize("entry", KNOWN_FILES, ids=lambda entry: entry.pattern)
def test_a_file_beside_those_of_a_pattern_is_found(entry):
    """No pattern has a whole directory of /etc; the spools of mail and of jobs are judged by other rules."""
    path = f"{folder_of(entry.pattern)}/{PLANTED}"
    if re.fullmatch(r"/var/spool/.*|/usr/lib/locale/.*|/usr/share/mime/.*|/run/sendsigs.*", path):
        assert entry.reason
        return
    raw = converged()
    odd_file(path, state="unpackaged")(raw)

    assert f"RW-080 file:{path}" in found(raw)


def test_patterns_are_counted_and_each_has_a_program_and_a_reason():
    assert len(KNOWN_FILES) == len({entry.pattern for entry in KNOWN_FILES}) > 60
    assert all(entry.program and entry.reason for entry in KNOWN_FILES)


@pytest.mark.parametrize(
    ("path", "target", "is_found"),
    (
        ("/etc/systemd/system/multi-user.target.wants/ssh.service", "/lib/systemd/system/ssh.service", False),
        ("/etc/systemd/system/multi-user.target.wants/x.service", "/opt/x.service", True),
        ("/etc/systemd/system/multi-user.target.wants/x.service", None, True),
        ("/etc/rc3.d/S01ssh", "../init.d/ssh", False),
        ("/etc/rc3.d/S01x", "/home/x/x", True),
        ("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC", False),
        ("/etc/dpkg/origins/default", "/tmp/zone", True),
        ("/etc/ssl/certs/x.pem", "/usr/share/ca-certificates/mozilla/x.crt", False),
        ("/etc/ssl/certs/x.pem", None, True),
        ("/etc/ssl/certs/x.pem", "/usr/share/ca-certificates/x.crt, which does not exist", True),
    ),
)
def test_a_link_is_known_by_where_it_leads(path, target, is_found):
    raw = converged()
    digest = "0f" if target is None else f"-> {target}"
    unpackaged(path, digest)(raw)

    assert bool(found(raw)) == is_found


@pytest.mark.parametrize(
    "row",
    (
        {"state": "unpackaged", "mode": "4755", "rights": True},
        {"state": "changed", "mode": "4755", "rights": True},
        {"state": "changed", "acl": "02000000"},
    ),
)
def test_a_file_has_one_row(row):
    raw = converged()
    odd_file("/usr/bin/ls", **row)(raw)

    assert len(found(raw)) == 1


def test_a_rule_that_says_more_keeps_its_file():
    raw = converged()
    unpackaged("/etc/cron.d/x")(raw)
    raw["changed_conffiles"]["/etc/ssh/sshd_config.d/x.conf"] = "changed"

    assert found(raw) == ["RW-027 file:/etc/ssh/sshd_config.d/x.conf", "RW-034 file:/etc/cron.d/x"]


@pytest.mark.parametrize("path", [*PRIVILEGES])
def test_the_rights_that_packages_give_are_known_and_others_are_found(path):
    mode, owner = PRIVILEGES[path]
    raw = converged()
    odd_file(path, state="packaged", rights=True, mode=mode, owner=owner)(raw)
    assert found(raw) == []

    odd_file(path, state="packaged", rights=True, mode="0777", owner=owner)(raw)
    assert found(raw) == [f"RW-082 file:{path}"]


def test_capabilities_that_packages_give_are_known():
    raw = converged()
    odd_file("/usr/bin/ping", state="packaged", capabilities="0100000200200000000000000000000000000000")(raw)

    assert found(raw) == []
    assert CAPABILITIES["/usr/bin/ping"] == "cap_net_raw"


def test_a_claim_on_mode_and_owner_is_compared_there_and_an_access_list_is_not():
    raw = converged()
    odd_file("/etc/x", state="unpackaged", rights=True, mode="0640", owner="root:adm")(raw)
    declaration = with_more(declared(), "file:/etc/x", "mode", "owner")
    assert [*apply(RULES["RW-082"], Facts(raw), declaration)] == []

    odd_file("/etc/x", state="unpackaged", acl="0200000002000600e8030000")(raw)
    [(finding, _)] = apply(RULES["RW-082"], Facts(raw), declaration)
    assert finding.found == "access list user:1000:rw-"


@pytest.mark.parametrize(
    ("change", "rule"),
    (
        (lambda account: account.update(left_out={"/usr/lib/x": 7}), "RW-080"),
        (lambda account: account["files"].update({"/etc/x": {"state": "unread", "found": "mounted"}}), "RW-080"),
        (lambda account: account.update(pending=3), "RW-081"),
    ),
)
def test_files_that_were_not_read_are_unknown(change, rule):
    raw = converged()
    change(raw["integrity"])

    assert [is_unknown for _, is_unknown in apply(RULES[rule], Facts(raw), declared())] == [True]


def test_names_of_other_machines_are_found_with_their_addresses():
    raw = converged()
    raw["integrity"]["generated"].remove("/etc/hosts")
    raw["files"]["/etc/hosts"] = FILE
    raw["unpackaged"].append("/etc/hosts")
    raw["integrity"]["names"] = [["127.0.2.1", "mirror.example"]]
    assert found(raw) == []

    raw["integrity"]["names"].append(["10.0.0.9", "gpu-02"])
    assert found(raw) == ["RW-080 file:/etc/hosts"]


def test_the_maker_of_a_file_is_known():
    maker = maker_of("/etc/ld.so.cache")
    assert maker is not None and maker.program == "ldconfig"
    assert maker_of("/etc/ld.so.cache.x") is None
