"""Lines that admit undeclared things: what they match, until when, and how they get into the fleet's file."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from rackwright.audit.undeclared.allow import admitted_by, allow_notices, new_lines
from rackwright.audit.undeclared.table import RULES
from rackwright.fleet.edit_allow import add_lines
from rackwright.fleet.upgrade import SCHEMA_VERSION
from rackwright.schema.allow import Allow

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LINE = {"reason": "the site's backup", "owner": "ops", "expires": "2026-12-31"}
SOCKET = "socket:tcp:[::]:4444"


def line(thing: str = SOCKET, rule: str = "RW-030", **more: str) -> Allow:
    return Allow(rule=rule, thing=thing, **{**LINE, **more})


@pytest.mark.parametrize(
    ("line", "admits"),
    [
        (line(), True),
        (line("socket:tcp:*:4444"), True),
        (line("socket:*"), True),
        (line("socket:tcp:[:4]:4444"), False),
        (line("socket:tcp:?::?:4444"), False),
        (line(rule="RW-031"), False),
        (line(host="gpu-01"), True),
        (line(host="gpu-*"), True),
        (line(host="gpu-02"), False),
        (line(expires="2026-11-28"), True),
        (line(expires="2026-11-27"), False),
    ],
)
def test_a_line_admits_its_thing_on_its_hosts_until_its_last_day(line, admits):
    text = admitted_by([line], "gpu-01", "RW-030", SOCKET, NOW)

    assert text == (f"the site's backup (ops, until {line.expires})" if admits else None)


def test_a_line_that_expired_or_names_no_rule_is_shown():
    lines = [line(), line(expires="2026-11-27"), line(rule="RW-999")]

    assert allow_notices(lines, RULES, NOW) == {
        "allow[1]": f"RW-030 {SOCKET} has expired on 2026-11-27, and counts again",
        "allow[2]": "there is no rule RW-999; remove the line",
    }


@pytest.mark.parametrize("missing", ["rule", "thing", "reason", "owner", "expires"])
def test_a_line_says_what_why_who_and_until_when(missing):
    values = {"rule": "RW-030", "thing": SOCKET, **LINE}
    del values[missing]

    with pytest.raises(ValidationError, match=missing):
        Allow(**values)


def test_a_thing_on_all_hosts_gets_one_line():
    found = [("a", "RW-034", "crontab:root"), ("b", "RW-034", "crontab:root"), ("b", "RW-020", "user:eve")]

    lines = new_lines(found, {"a", "b"}, "first audit", "ops", NOW)

    assert [(line.rule, line.thing, line.host, line.expires) for line in lines] == [
        ("RW-020", "user:eve", "b", "2027-02-26"),
        ("RW-034", "crontab:root", "*", "2027-02-26"),
    ]
    assert all(admitted_by(lines, *each, NOW) for each in found)


FLEET = f"""\
fleet: lab  # ours
schema_version: {SCHEMA_VERSION}
# all machines
hosts:
  gpu-01:  # the first
    address: 192.0.2.1
"""


def test_lines_are_added_to_the_file_and_its_comments_stay(tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text(FLEET)

    path.write_text(add_lines(path, [line("user:eve", "RW-020", host="gpu-01")]))
    once = path.read_text()
    twice = add_lines(path, [line()])

    assert [text for text in FLEET.splitlines() if text not in once.splitlines()] == []
    assert once.splitlines()[3:9] == [
        "allow:",
        "  - rule: RW-020",
        "    thing: user:eve",
        "    host: gpu-01",
        "    reason: the site's backup",
        "    owner: ops",
    ]
    added = [text for text in twice.splitlines() if text not in once.splitlines()]
    assert added == ["  - rule: RW-030", f"    thing: {SOCKET}"]
