"""What apt of this computer knows."""

import pytest

from rackwright.errors import SetupError
from rackwright.toolchain import apt
from rackwright.twin import mirrors

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

STANZAS = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: trixie trixie-updates trixie-backports
Components: main contrib
Signed-By: /etc/mirror.gpg

Types: deb
URIs: http://mirror.example/security
Suites: trixie-security
Components: main

Types: deb-src
URIs: http://mirror.example/source
Suites: trixie
Components: main

Types: deb
URIs: http://mirror.example/off
Suites: trixie
Components: main
Enabled: no
"""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"debian.sources": STANZAS},
            [
                "deb [signed-by=/etc/mirror.gpg] http://mirror.example/debian bookworm main",
                "deb [signed-by=/etc/mirror.gpg] http://mirror.example/debian bookworm-updates main",
                f"deb [signed-by={KEYRING}] http://mirror.example/security bookworm-security main",
            ],
        ),
        (
            {"sources.list": "deb [trusted=yes arch=amd64] file:/mirror bookworm main\n#deb http://m sid main\n"},
            [f"deb [signed-by={KEYRING} trusted=yes] file:/mirror bookworm main"],
        ),
        (
            {"ubuntu.sources": "Types: deb\nURIs: http://ubuntu.example\nSuites: noble\nComponents: main\n"},
            [],
        ),
        (
            {
                "tool.list": "deb https://tool.example/apt cloud-sdk-bookworm main\n",
                "sources.list": "deb http://m sid main",
            },
            [f"deb [signed-by={KEYRING}] http://m bookworm main"],
        ),
    ],
    ids=["stanzas", "one-line", "not-debian", "foreign-repository"],
)
def test_mirrors_are_those_of_this_computer(files, expected):
    """
    The guest's suite from the mirrors that are reachable here, and no repository of anything else.
    """
    assert apt.sources("bookworm", files) == expected


def test_a_guest_is_lent_all_components():
    """
    Drivers are in non-free, and what they need in contrib.
    """
    [first, *_] = apt.sources("bookworm", {"debian.sources": STANZAS}, "main non-free")

    assert first == "deb [signed-by=/etc/mirror.gpg] http://mirror.example/debian bookworm main non-free"


def test_mirrors_that_are_not_there_cannot_be_lent(monkeypatch):
    monkeypatch.setattr(apt, "_apt_files", list)

    with pytest.raises(SetupError, match="has no mirror of Debian"):
        mirrors.source_lines("debian-12")
