"""Small fleets whose numbers and names do not fit, and their errors."""

from pathlib import Path

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from tests.support.our_roles import ROLES

PATH = Path("fleet.yaml")
HOST = "fleet: lab\nhosts:\n  alpha:\n    address: 192.0.2.11\n    identity: {serial: S}\n    os: debian-12\n"
PORT = '    nics:\n      - {name: fabric0, mac: "00:00:5e:00:53:01", addresses: [198.51.100.1/24]}\n'
NUMBERS = ("01750", "010", "00", "0o17", "0x1F", "-01", "01.5", "00.5", "1e400", "9" * 400, "9" * 5000, ".inf", ".nan")
"""Numbers that readers of YAML disagree about, or that do not fit."""


def errors(text: str) -> list[str]:
    """Return the errors of the fleet *text*, each with its place."""
    try:
        load_fleet(PATH, ROLES, text=text)
    except DeclarationError as refused:
        return [f"{each.where} {each.problem}" for each in refused.diagnostics]
    return []


def tier(drives: int, spares: int) -> str:
    """Return a fleet with a RAID1 of that many *drives* and *spares*."""
    text = HOST + "    tiers:\n      a: {level: raid1, filesystem: xfs, mount: /srv/a}\n    drives:\n"
    for number in range(drives + spares):
        spare = ", spare: true" if number >= drives else ""
        text += f"      - {{serial: S{number}, bus: nvme, size: 1TB, tier: a{spare}}}\n"
    return text
