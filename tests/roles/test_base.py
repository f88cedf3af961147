"""The role base: what it writes for the clock, and what it does not take."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, AboutMirror, RoleSpec
from tests.support.our_roles import REPOSITORY, ROLES

SOURCE = ROLES["base"]
KEYS = [
    {"id": 3, "type": "SHA256", "key": {"secret": "near"}, "servers": ["time-1", "time-2"]},
    {"id": 9, "type": "SHA512", "key": {"secret": "far"}, "servers": ["time-4"]},
]
WHOLE = {"ntp_servers": ["time-1", "time-2", "time-3", "time-4"], "ntp_keys": KEYS}
VALUES = {"near": "a near secret", "far": "HEX:B4B8D2"}


def promised(variables: dict[str, Any], mirror: AboutMirror | None = None) -> Promises:
    """Return the promises of the role."""
    spec = RoleSpec(
        host="alpha",
        role="base",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab", mirror=mirror),
        variables=variables,
    )
    return promises(spec, replace(REPOSITORY, secrets=VALUES))


def files(variables: dict[str, Any], mirror: AboutMirror | None = None) -> dict[str, Any]:
    """Return every file that the role writes, by its path."""
    return {file.file: file for file in promised(variables, mirror).files}


def test_each_server_is_asked_with_its_own_key():
    lines = files(WHOLE)["/etc/chrony/chrony.conf"].content.splitlines()

    assert [line for line in lines if line.startswith("server")] == [
        "server time-1 iburst key 3",
        "server time-2 iburst key 3",
        "server time-3 iburst",
        "server time-4 iburst key 9",
    ]
    assert "keyfile /etc/chrony/chrony.keys" in lines


def test_only_chrony_reads_the_keys():
    """
    As chrony.conf(5) has it: id, type, key; a # begins a comment.
    """
    keys = files(WHOLE)["/etc/chrony/chrony.keys"]

    assert keys.content.splitlines()[1:] == ["3 SHA256 a near secret", "9 SHA512 HEX:B4B8D2"]
    assert keys.content.startswith("#")
    assert (keys.mode, keys.owner) == ("0640", "root:_chrony")


def test_packages_come_from_the_mirror_alone_where_the_fleet_has_one():
    """
    Its key stands where apt looks for it; without one, nothing of ours is in the way.
    """
    mirror = AboutMirror(url="https://mirror.example/rack/", key="-----BEGIN\n\nmDME\n-----END\n")
    written, bare = (files({}, each) for each in (mirror, None))

    assert written["/etc/apt/rackwright.sources"].content.splitlines()[2:] == [
        "Types: deb",
        "URIs: https://mirror.example/rack/",
        "Suites: debian-12",
        "Components: main",
        "Signed-By:",
        " -----BEGIN",
        " .",
        " mDME",
        " -----END",
    ]
    assert 'SourceParts "-"' in written["/etc/apt/apt.conf.d/90rackwright-mirror"].content
    assert written.keys() - bare.keys() == {
        "/etc/apt/rackwright.sources",
        "/etc/apt/apt.conf.d/90rackwright-mirror",
    }


def test_without_keys_there_is_no_file_and_no_word_of_one():
    written = files({"ntp_servers": ["time-1"]})

    assert "/etc/chrony/chrony.keys" not in written
    assert "key" not in written["/etc/chrony/chrony.conf"].content


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda keys: keys[0].update(id=0), "got the id 0; a key's id is 1 or more."),
        (lambda keys: keys[0].update(id=9), "got the id 9 more than once; a key has an id of its own."),
        (lambda keys: keys[0].update(servers=["time-5"]), "got the server time-5; it is one of ntp_servers: time-1, "),
        (lambda keys: keys[1]["servers"].append("time-1"), "got the server time-1 with more than one key; a server"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(change, expected):
    keys = copy.deepcopy(KEYS)
    change(keys)
    given = {**WHOLE, "ntp_keys": keys}

    assert list(SOURCE.problems("debian-12", given)) == [], "each is of its type"
    [problem] = refusals(SOURCE, "debian-12", given)
    assert expected in str(problem)
    assert list(refusals(SOURCE, "debian-12", WHOLE)) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"type": "MD5"}, "got 'MD5'; one of SHA256, SHA384, SHA512"),
        ({"id": "one"}, "got 'one'; a whole number"),
        ({"of": 1}, "got an unknown key; one of id, type, key, servers"),
    ],
)
def test_a_key_is_of_its_type(change, expected):
    [problem] = SOURCE.problems("debian-12", {**WHOLE, "ntp_keys": [{**KEYS[0], **change}]})

    assert problem.path == ("ntp_keys", 0, *change)
    assert expected in str(problem)


@pytest.mark.parametrize(
    ("locale", "wanted"),
    [
        ("C.UTF-8", set()),
        (
            "ca_ES.UTF-8@valencia",
            {"package:locales", "file:/usr/lib/locale/ca_ES.utf8@valencia/LC_IDENTIFICATION"},
        ),
    ],
)
def test_a_locale_that_glibc_has_to_make_is_claimed_to_exist(locale, wanted):
    things = {entry.thing for entry in promised({"locale": locale}).entries}

    assert {thing for thing in things if thing.startswith(("package:locales", "file:/usr/lib/locale"))} == wanted
