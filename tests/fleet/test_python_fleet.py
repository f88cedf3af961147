"""Fleets in Python: plain errors that name file, line and path, never a traceback."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet

HEAD = """\
from rackwright.schema import Drive, Fleet, Host, Identity, Login, Nic, Size, Ssh, Tier


def host(serial="A", address="192.0.2.1", **more):
    return Host(address=address, identity=Identity(serial=serial), os="debian-12", **more)


"""


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that loads a fleet with this text, and returns what is wrong with it."""

    def load(text: str) -> str:
        monkeypatch.chdir(tmp_path)
        Path("wrong.py").write_text(HEAD + dedent(text))
        with pytest.raises(DeclarationError) as caught:
            load_fleet(Path("wrong.py"), {})
        return str(caught.value)

    return load


def test_a_fleet_is_what_its_function_returns(tmp_path: Path) -> None:
    path = tmp_path / "right.py"
    path.write_text(HEAD + 'def fleet():\n    return Fleet(fleet="right", hosts={"alpha": host()})\n')
    assert list(load_fleet(path, {}).hosts) == ["alpha"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def fleet():\n    return Fleet(fleet='wrong', hosts={'alpha': host(drives=[Drive(serial='/dev/sda')])})\n",
            "wrong.py:9: Drive.serial: got '/dev/sda'; a drive is named by its serial number: kernel names change"
            " between boots. Copy the serial from `lsblk -dno NAME,SERIAL` on the host.",
        ),
        (
            "def fleet():\n    return Fleet(fleet='wrong', hosts={'alpha': host(profil='virtual')})\n",
            "wrong.py:5: Host.profil: got an unknown key; a key of Host. Write profile.",
        ),
        (
            "tier = Tier(level='raid1', filesystem='xfs', mount='/srv/a')\n"
            "def fleet():\n    return Fleet(fleet='wrong', hosts={'alpha': host(tiers={'a': tier})})\n",
            "wrong.py:5: Host.drives: got 0 drives with `tier: a`; raid1 needs 2 or more."
            " Add it to 2 more, or choose another level. [md(4)]",
        ),
        (
            "def fleet():\n    return Drive(serial='A', size=Size('3.84'))\n",
            "wrong.py:9: got 3.84; a size has a unit. Add it: TB is 10^12 bytes as on labels, TiB is 2^40.",
        ),
        (
            "def fleet():\n    return Drive(serial='A', size=3840000000000)\n",
            "wrong.py:9: Drive.size: got 3840000000000; a size has a unit."
            " Add it: TB is 10^12 bytes as on labels, TiB is 2^40.",
        ),
        (
            "def fleet():\n    return Fleet(fleet='wrong', hosts={'a': host(), 'b': host(address='192.0.2.2')})\n",
            "wrong.py: hosts.b.identity.serial: got 'A'; a value that appears once; a has that identity already"
            " (hosts.a.identity.serial). Correct one of the two.",
        ),
        (
            "def fleet():\n    return Fleet(fleet='wrong', hosts={'a b': host()})\n",
            "wrong.py:9: Fleet.hosts.a b: got the name 'a b'; a name has small letters, digits and inner hyphens,"
            " 63 at most. Write a-b.",
        ),
        (
            "def fleet():\n    return [host()]\n",
            "wrong.py: fleet() returns list; fleet() -> Fleet. Return a Fleet from fleet().",
        ),
        (
            "def fleet():\n    return 1 / 0\n",
            "wrong.py:9: the program failed with ZeroDivisionError: division by zero. Correct the program.",
        ),
        (
            "import sys\nsys.exit(3)\n",
            "wrong.py:9: the program failed with SystemExit: 3. Correct the program.",
        ),
        (
            "fleat = None\n",
            "wrong.py: there is no function fleet; fleet() -> Fleet. Return a Fleet from fleet().",
        ),
        (
            "def fleet(:\n",
            "wrong.py:8: the program failed with SyntaxError: invalid syntax. Correct the program.",
        ),
    ],
)
def test_what_is_wrong_is_reported_plainly(text: str, message: str, refusal: Callable[[str], str]) -> None:
    assert refusal(text) == message


def test_a_missing_file_is_reported_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeclarationError) as caught:
        load_fleet(Path("none.py"), {})
    assert str(caught.value) == ("none.py: no such file; the file of a fleet. Correct the name.")
