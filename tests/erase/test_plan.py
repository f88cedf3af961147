"""Who is refused, and why: drives in use, of tiers, of another machine; methods that a drive has not; consents."""

import shlex
from typing import Any

import pytest

from rackwright.erase.plan import Abilities, consent_option, consent_refusals, parse_consents, refusals
from rackwright.facts.facts import Facts
from rackwright.facts.view import View
from rackwright.stack import load_stack
from tests.support.sources import ROOT

HOST = load_stack("lab", ROOT).fleet.hosts["gpu-01"]
ABLE = {
    "can_format": True,
    "can_crypto_erase": False,
    "namespaces_erased": 1,
    "discard_max_bytes": 4096,
    "in_use": False,
}


def drive(**changes: Any) -> dict[str, Any]:
    return {
        "name": "sde",
        "path": "/dev/sde",
        "serial": "E-1",
        "model": "M",
        "bus": "sas",
        "size_bytes": 512_000_000,
        "holders": [],
        "mountpoints": [],
        "signatures": [],
        "witnesses": [],
        "sample": [],
        "parts": [],
        "held": [],
        "writes": "8 sectors written since 5f3c1a2b",
        **changes,
    }


def refused(
    *drives: dict[str, Any],
    method: str = "overwrite",
    able: dict[str, Any] | None = None,
    serial: str = "E-1",
    identity: Any = "RW-GPU-01",
) -> list[str]:
    facts = Facts({"identity": {"serial": identity}, "drives": list(drives)})
    abilities = View({serial: {**ABLE, **(able or {})}}, "gpu-01")
    return [str(one) for one in refusals("gpu-01", HOST, facts, abilities, [serial], method)]


@pytest.mark.parametrize("method", ["overwrite", "discard", "format"])
def test_an_unused_drive_is_not_refused(method):
    assert refused(drive(), method=method) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"mountpoints": ["/mnt"]},
            "the drive is mounted at /mnt; a drive that is not in use. Make sure that it is not needed",
        ),
        ({"mountpoints": ["[SWAP]"]}, "the drive is mounted at [SWAP]"),
        (
            {"holders": ["md127"]},
            "the drive is part of md127; a drive that is not in use."
            " Make sure that it is not needed, then run `mdadm --stop /dev/md127` on the host",
        ),
        (
            {"holders": ["dm-0"]},
            "the drive is part of dm-0; a drive that is not in use."
            " Make sure that it is not needed, then close the device on the host",
        ),
        (
            {"holders": {"unknown": "no such place"}},
            "its content or its use is unknown (drives[sde].holders: no such place)",
        ),
    ],
)
def test_a_drive_that_is_used_is_refused(changes, expected):
    [text] = refused(drive(**changes))

    assert text.startswith(f"gpu-01: drive E-1: {expected}")


def test_a_drive_that_a_program_holds_is_refused():
    [text] = refused(drive(), able={"in_use": True})

    assert text.startswith("gpu-01: drive E-1: a program has the drive open; ")
    assert "`fuser -v /dev/sde`" in text


def test_the_boot_drive_and_drives_of_declared_tiers_are_refused():
    [boot] = refused(drive(serial="RW01-BOOT"), serial="RW01-BOOT")
    [member] = refused(drive(serial="RW01-NVME0"), serial="RW01-NVME0")

    assert "the drive is the boot drive of the host" in boot
    assert "the drive belongs to tier hot; a drive without a tier. Remove the tier" in member
    assert "`rackwright drive replace STACK gpu-01 RW01-NVME0 NEW`" in member


def test_a_drive_that_is_not_there_is_refused_with_those_that_are():
    [text] = refused(drive(serial="E-2"), serial="E-1")
    assert text == "gpu-01: drive E-1: the host has no drive with this serial; one of E-2. Write E-2."

    [text] = refused(drive(serial={"unknown": "no page"}), serial="E-1")
    assert "its content or its use is unknown (drives[sde].serial: no page). Correct it on the host" in text


@pytest.mark.parametrize(
    ("method", "able", "expected"),
    [
        ("discard", {"discard_max_bytes": 0}, "method discard: the drive does not support discards"),
        ("format", {"can_format": False}, "method format: the drive has no NVMe controller that supports format"),
        (
            "crypto-erase",
            {},
            "method crypto-erase: the drive has no NVMe controller that supports cryptographic erase",
        ),
        ("format", {"namespaces_erased": 3}, "method format: the controller would erase 3 namespaces"),
        (
            "discard",
            {"discard_max_bytes": {"unknown": "?"}},
            "its content or its use is unknown (E-1.discard_max_bytes: ?)",
        ),
        (
            "format",
            {"can_format": {"unknown": "nvme is not installed"}},
            "its content or its use is unknown (E-1.can_format: nvme is not",
        ),
    ],
)
def test_a_method_that_a_drive_has_not_is_refused(method, able, expected):
    [text] = refused(drive(), method=method, able=able)

    assert text.startswith(f"gpu-01: drive E-1: {expected}")


def test_what_could_not_be_asked_of_a_drive_is_no_leave():
    facts = Facts({"identity": {"serial": "RW-GPU-01"}, "drives": [drive()]})
    abilities = View({"E-1": {"unknown": "hangs"}}, "gpu-01")

    [one] = refusals("gpu-01", HOST, facts, abilities, ["E-1"], "overwrite")

    assert one.problem == "its content or its use is unknown (gpu-01.E-1: hangs)"


@pytest.mark.parametrize("found", ["OTHER", None, {"unknown": "no dmidecode"}])
def test_another_machine_is_refused(found):
    [text] = refused(drive(), identity=found)

    assert text.startswith("gpu-01: serial: the machine has ")
    assert "RW-GPU-01, as the fleet declares; nothing is written to this machine" in text


def test_everything_is_reported_at_once():
    assert len(refused(drive(holders=["md1"], mountpoints=["/a"]), method="crypto-erase", identity="OTHER")) == 4


@pytest.mark.parametrize(
    ("content", "consent", "passes"),
    [
        ("ext4 3f2a, data 77", None, False),
        ("ext4 3f2a, data 77", "ext4 3f2a, data 77", True),
        ("data 77", "ext4 3f2a, data 77", True),
        ("", "ext4 3f2a, data 77", True),
        ("ext4 3f2a, data 78", "ext4 3f2a, data 77", False),
        ("ext4 3f2a, data 77", "blank", False),
        ("", "blank", True),
        ("", None, False),
    ],
)
def test_a_consent_covers_what_it_names_and_no_more(content, consent, passes):
    found = list(consent_refusals("gpu-01", "E-1", content, consent))

    assert not found if passes else found[0].help.endswith(consent_option("E-1", content))


def test_consents_are_read_and_what_is_wrong_with_them_is_reported():
    found, wrong = parse_consents(
        ["E-1=ext4 3f2a, data a=b", "E-2", "E-9=x", "E-3=", "E-1=again"], ["E-1", "E-2", "E-3"]
    )

    assert found == {"E-1": "ext4 3f2a, data a=b"}
    assert [one.problem for one in wrong] == [
        "'E-2' is not a consent",
        "drive E-9 is not erased by this command",
        "'E-3=' is not a consent",
        "drive E-1 has two consents",
    ]


def test_what_is_pasted_is_what_is_read():
    _, text = shlex.split(consent_option("E-1", "ext4 3f2a, it's data"))

    assert parse_consents([text], ["E-1"]) == ({"E-1": "ext4 3f2a, it's data"}, [])


def test_every_ability_is_read():
    able = Abilities(ABLE, "E-1")

    assert {name: getattr(able, name) for name in ABLE} == ABLE
