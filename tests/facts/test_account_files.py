"""The files of accounts: lines that a person writes by hand are reported, and those of programs are not."""

from typing import Any

import pytest

from rackwright.facts.probe import account_files
from tests.support.fabricated_machine import FabricatedMachine

PASSWD = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\naxel:x:1000:1000:A,,,:/home/axel:/bin/bash\n"  # noqa: E501
GROUP = "root:x:0:\ndaemon:x:1:\naxel:x:1000:\nsudo:x:27:axel\n"
SHADOW = "root:*:19000:0:99999:7:::\ndaemon:!*:19000::::::\naxel:$y$j9T$x:19000:0:99999:7:::\n"
GSHADOW = "root:*::\ndaemon:!*::\naxel:!::\nsudo:*::axel\n"


@pytest.fixture
def machine(tmp_path):
    machine = FabricatedMachine(tmp_path)
    for name, text in (("passwd", PASSWD), ("group", GROUP), ("shadow", SHADOW), ("gshadow", GSHADOW)):
        machine.write(f"etc/{name}", text)
    machine.write("usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\n")
    return machine


def read(machine: FabricatedMachine, name: str, text: str) -> dict[str, Any]:
    machine.write(f"etc/{name}", text)
    return account_files.account_files(machine.top)


def test_files_as_programs_write_them_have_nothing_odd(machine):
    found = account_files.account_files(machine.top)

    assert (found["odd_lines"], found["duplicates"], found["group_rights"], found["dates"]) == ([], [], {}, {})
    assert found["base_users"] == {"root": {"uid": 0, "gid": 0, "home": "/root", "shell": "/bin/bash"}}


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("passwd", "+", "NIS"),
        ("passwd", "+::::::", "NIS"),
        ("passwd", "+@admins::::::", "NIS"),
        ("passwd", "-eve::::::", "NIS"),
        ("group", "+:::", "NIS"),
        ("shadow", "+::::::::", "NIS"),
        ("passwd", "eve:x:1001:1001:/home/eve:/bin/bash", "6 fields instead of 7"),
        ("passwd", "eve:x:0:0", "4 fields"),
        ("passwd", "eve:x:1001:1001::/home/eve:/bin/bash:", "8 fields"),
        ("shadow", "eve::1", "3 fields"),
        ("gshadow", "eve:!", "2 fields"),
        ("passwd", "eve:x:00:0::/root:/bin/bash", "no plain number"),
        ("passwd", "eve:x:+0:0::/root:/bin/bash", "no plain number"),
        ("passwd", "eve:x:0x0:0::/root:/bin/bash", "no plain number"),
        ("passwd", "eve:x:4294967296:0::/root:/bin/bash", "no plain number"),
        ("passwd", "eve:x: 0:0::/root:/bin/bash", "no plain number"),
        ("passwd", " eve:x:1001:1001::/root:/bin/bash", "a name that"),
        ("passwd", ":x:0:0::/root:/bin/bash", "a name that"),
        ("passwd", "eve:x:1001:1001::home/eve:/bin/bash", "whole path"),
        ("passwd", "eve:x:1001:1001::/home/eve:bash", "whole path"),
        ("shadow", "eve:x:soon:0:99999:7:::", "a date"),
        ("passwd", "#eve:x:1001:1001::/home/eve:/bin/bash", "a comment"),
    ],
)
def test_a_line_that_programs_read_in_different_ways_is_named(machine, name, line, reason):
    text = {"passwd": PASSWD, "group": GROUP, "shadow": SHADOW, "gshadow": GSHADOW}[name]
    found = read(machine, name, f"{text}{line}\n")["odd_lines"]

    assert [(row["file"], row["line"]) for row in found] == [(f"/etc/{name}", text.count("\n") + 1)]
    assert reason in found[0]["reason"]


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("passwd", "axel:x:1002:0::/root:/bin/bash", ("name", "axel")),
        ("passwd", "eve:x:1000:1000::/home/eve:/bin/bash", ("id", "1000")),
        ("passwd", "eve:x:01000:1000::/home/eve:/bin/bash", ("id", "1000")),
        ("passwd", "toor:x:0:0::/root:/bin/bash", ("id", "0")),
        ("group", "eve:x:27:eve", ("id", "27")),
        ("group", "sudo:x:1005:eve", ("name", "sudo")),
        ("shadow", "root::19000::::::", ("name", "root")),
        ("gshadow", "sudo:*:eve:", ("name", "sudo")),
    ],
)
def test_a_name_or_an_id_that_stands_twice_is_named(machine, name, line, expected):
    text = {"passwd": PASSWD, "group": GROUP, "shadow": SHADOW, "gshadow": GSHADOW}[name]
    found = read(machine, name, f"{text}{line}\n")["duplicates"]

    assert [(row["sort"], row["key"]) for row in found] == [expected]


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("gshadow", "sudo:*::axel", "sudo:$6$x$y::axel", {"sudo": {"password": "set"}}),
        ("gshadow", "sudo:*::axel", "sudo:*:eve:axel", {"sudo": {"administrators": ["eve"]}}),
        ("gshadow", "sudo:*::axel", "sudo:*::axel,eve", {"sudo": {"other_members": ["eve"]}}),
        ("gshadow", "sudo:*::axel", "sudo:*::", {"sudo": {"other_members": ["axel"]}}),
        ("gshadow", "sudo:*::axel", "sudo:*::axel\nghost:*::", {"ghost": {"without_group": True}}),
        ("group", "sudo:x:27:axel", "sudo:$6$x$y:27:axel", {"sudo": {"password": "set"}}),
        ("group", "sudo:x:27:axel", "sudo::27:axel", {"sudo": {"password": "none"}}),
    ],
)
def test_another_way_into_a_group_is_named(machine, name, old, new, expected):
    text = {"group": GROUP, "gshadow": GSHADOW}[name]

    assert read(machine, name, text.replace(old, new))["group_rights"] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("0:0:99999:7:::", {"last_changed": 0}),
        ("19000:0:90:7:::", {"maximum": 90}),
        ("19000:0:99999:7:30::", {"inactive": 30}),
        ("19000:0:99999:7::1:", {"expires": 1}),
        ("19000:0:99999:7::0:", {"expires": 0}),
        ("19000:0:99999:7:-1:-1:", None),
    ],
)
def test_a_date_that_ends_logins_is_named(machine, fields, expected):
    found = read(machine, "shadow", SHADOW.replace("19000:0:99999:7:::\naxel", f"{fields}\naxel", 1))
    found = read(machine, "shadow", f"root:*:{fields}\n")

    assert found["dates"] == ({} if expected is None else {"root": expected})


def test_the_owner_of_a_home_is_read_and_no_link_followed(machine):
    (machine.root / "home").mkdir(exist_ok=True)
    (machine.root / "home/axel").symlink_to("/tmp")
    found = account_files.account_files(machine.top)["homes"]

    assert found["axel"]["sort"] == "link" and "daemon" not in found


def test_names_in_the_facts_have_a_bound_and_no_control_characters(machine):
    found = read(machine, "passwd", f"{PASSWD}{'a' * 900}\x1b[31m:x\n")["odd_lines"]

    assert len(found[0]["name"]) <= account_files.SHOWN and "\x1b" not in str(found)
