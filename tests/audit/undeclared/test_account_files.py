"""Accounts of packages, of roles and of people as they are stay silent; each change of one by hand is a finding."""

from dataclasses import replace
from typing import Any

import pytest

from rackwright.audit.undeclared.search import apply
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from tests.support.converged_host import converged, declared

USER = {"uid": 1000, "gid": 1000, "home": "/home/rackwright", "shell": "/bin/bash", "password": "locked"}
USER |= {"expires": None, "groups": ["rackwright"]}


def found(id: str, raw: dict[str, Any], **wants: Any) -> dict[str, str]:
    return {finding.thing: finding.found for finding, _ in apply(RULES[id], Facts(raw), declared(**wants))}


def with_user(name: str, **values: Any) -> dict[str, Any]:
    raw = converged()
    raw["users"][name] = {**USER, **values}
    return raw


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("_chrony", {"uid": 100, "home": "/var/lib/chrony", "shell": "/usr/sbin/nologin"}),
        ("messagebus", {"uid": 101, "home": "/nonexistent", "shell": "/usr/sbin/nologin"}),
        ("systemd-network", {"uid": 998, "home": "/", "shell": "/usr/sbin/nologin"}),
        ("postgres", {"uid": 110, "home": "/var/lib/postgresql", "shell": "/bin/bash"}),
        ("sshd", {"uid": 102, "home": "/run/sshd", "shell": "/usr/sbin/nologin"}),
        ("git", {"uid": 103, "home": "/srv/git", "shell": "/usr/bin/git-shell"}),
        ("old", {"uid": 104, "home": "/var/lib/old", "shell": "/bin/false"}),
    ],
)
def test_an_account_of_a_package_is_not_found(name, values):
    assert found("RW-096", with_user(name, **values)) == {}


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("root", {"uid": 0, "gid": 0, "home": "/tmp/x"}, "home /tmp/x instead of /root"),
        ("root", {"uid": 0, "gid": 0, "home": "/root", "shell": "/tmp/sh"}, "shell /tmp/sh"),
        ("root", {"uid": 0, "gid": 1000, "home": "/root"}, "group 1000 instead of 0"),
        ("rackwright", {"home": "/tmp/rackwright"}, "home /tmp/rackwright instead of /home/rackwright"),
        ("rackwright", {"shell": "/usr/bin/python3"}, "shell /usr/bin/python3"),
        ("_chrony", {"uid": 100, "home": "/tmp", "shell": "/usr/sbin/nologin"}, "home /tmp"),
        ("_chrony", {"uid": 100, "home": "/home/eve", "shell": "/usr/sbin/nologin"}, "home /home/eve"),
        ("_chrony", {"uid": 100, "home": "/var/tmp/x", "shell": "/usr/sbin/nologin"}, "home /var/tmp/x"),
        ("_chrony", {"uid": 100, "home": "/var/lib/chrony", "shell": "/tmp/nologin"}, "shell /tmp/nologin"),
        ("_chrony", {"uid": 100, "home": "/var/lib/chrony", "shell": "/opt/false"}, "shell /opt/false"),
    ],
)
def test_another_home_or_shell_is_found(name, values, text):
    assert text in found("RW-096", with_user(name, **values))[f"user:{name}"]


@pytest.mark.parametrize(
    ("home", "text"),
    [
        ({"owner": "eve:eve", "uid": 1007, "mode": "0755", "sort": "directory"}, "belongs to eve:eve"),
        ({"owner": "root:root", "uid": 0, "mode": "0777", "sort": "directory"}, "has the mode 0777"),
        ({"owner": "root:root", "uid": 0, "mode": "0777", "sort": "link"}, "is a link"),
        ({"owner": "rackwright:rackwright", "uid": 1000, "mode": "0750", "sort": "directory"}, ""),
    ],
)
def test_a_home_of_another_account_is_found(home, text):
    raw = with_user("rackwright")
    raw["account_files"]["homes"] = {"rackwright": home}
    rows = found("RW-096", raw)

    assert ([text in each for each in rows.values()] == [True]) if text else rows == {}


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"expires": 1}, "expires on day 1"),
        ({"last_changed": 0}, "a new password"),
        ({"maximum": 90}, "ends after 90 days"),
        ({"inactive": 30}, "locked 30 days after"),
    ],
)
def test_a_date_that_ends_logins_is_found_for_accounts_that_log_in(limits, text):
    raw = with_user("rackwright")
    raw["account_files"]["dates"] = {"rackwright": limits, "_chrony": limits}

    assert [text in each for each in found("RW-096", raw).values()] == [True]


def test_what_a_claim_compares_is_left_to_it():
    raw = with_user("deploy", uid=1001, home="/srv/deploy", shell="/usr/bin/python3")  # noqa: S604 - a login shell
    raw["account_files"]["homes"] = {}
    assert "user:deploy" in found("RW-096", raw)

    own = {"user:deploy": {"home": "/srv/deploy", "shell": "/usr/bin/python3", "groups": ()}}
    assert found("RW-096", raw, **own) == {}


def test_an_account_of_a_server_of_another_fleet_is_left_to_it():
    raw = with_user("server-digits", uid=990, home="/home/x", shell="/usr/sbin/nologin")  # noqa: S604 - a login shell
    assert "user:server-digits" in found("RW-096", raw)

    raw["owners"]["server-digits"] = {"id": "alpha/digits", "fleet": "serving", "phase": "ready"}
    assert found("RW-096", raw) == {}


def test_doubled_ids_and_rights_of_groups_are_described():
    raw = converged()
    files = raw["account_files"]
    files["duplicates"] = [
        {"file": "/etc/passwd", "sort": "id", "key": "0", "names": ["root", "toor"]},
        {"file": "/etc/gshadow", "sort": "name", "key": "sudo"},
    ]
    files["group_rights"] = {"sudo": {"password": "set", "other_members": ["eve"]}, "ghost": {"without_group": True}}

    assert found("RW-094", raw) == {
        "user:toor": "the id 0 in /etc/passwd is that of root, toor",
        "group:sudo": "several lines of /etc/gshadow, of which programs read one",
    }
    assert "a password of the group" in found("RW-095", raw)["group:sudo"]
    assert "differ in eve" in found("RW-095", raw)["group:sudo"]
    assert found("RW-095", raw)["group:ghost"] == "a line in /etc/gshadow alone"


def test_facts_of_an_earlier_probe_leave_the_rules_unknown():
    raw = converged()
    del raw["account_files"], raw["package_database"], raw["boot"]
    own = replace(declared())

    for id in ("RW-094", "RW-095", "RW-096", "RW-098", "RW-099", "RW-153", "RW-154"):
        assert [unknown for _, unknown in apply(RULES[id], Facts(raw), own)] == [True]
