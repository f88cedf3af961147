"""Random fleets: generated from a seed, each small enough for a twin."""

import random
import string
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

from ruamel.yaml import YAML

from rackwright.schema import Bus, Drive, Fleet, Host, Identity, Login, Nic, Size, Ssh, Tier
from rackwright.schema.tier import MEMBERS, FilesystemType, Level
from rackwright.schema.units import format_size

MEMBERS_MAX = 6
BUSES: tuple[Bus, ...] = ("nvme", "sas")
SIZES = {"nvme": ("960GB", "1.92TB", "3.84TB", "1TiB"), "sas": ("4TB", "8TB", "12TB", "600GB")}
CHUNKS = (None, "64KiB", "128KiB", "256KiB", "1MiB")
OPTIONS = ((), ("noatime",), ("nodev", "noatime"), ("nosuid", "noatime", "nodev"))
ROOTS = ("/srv", "/mnt", "/data", "/opt/pools")
NETWORKS = (("198.51.100", 1500), ("203.0.113", 9000))
"""Network and MTU of a port, by its number."""
SERIAL_MAX = 20
"""The longest serial number that a virtual NVMe drive carries."""


def generate(seed: int) -> Fleet:
    """Return the fleet of *seed*: one or two hosts of two or three tiers of up to six drives; all else varies too."""
    chance = random.Random(seed)
    names = [_name(chance, 3, 12) for _ in range(chance.choice((1, 2)))]
    return Fleet(fleet=_name(chance, 3, 10), hosts={name: _host(chance, number) for number, name in enumerate(names)})


def write_yaml(fleet: Fleet, path: Path) -> None:
    """Write *fleet* as a file that loads back to the same."""
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(_with_units(fleet.model_dump(mode="json", exclude_defaults=True)), file)


def _with_units(value: Any) -> Any:
    if isinstance(value, dict):
        sizes = {"size", "chunk", "sync_speed_max"}
        return {key: _size(part) if key in sizes else _with_units(part) for key, part in value.items()}
    return [_with_units(part) for part in value] if isinstance(value, list) else value


def _size(size_bytes: int) -> str:
    rounded = format_size(size_bytes)
    return rounded if Size(rounded) == size_bytes else f"{size_bytes}B"


def _host(chance: random.Random, number: int) -> Host:
    roots = chance.sample(ROOTS, chance.choice((2, 3)))  # tiers stand beside each other, never one inside another
    tiers = {_name(chance, 2, 8): _tier(chance, root) for root in roots}
    drives = [Drive(serial=_serial(chance), boot=True)]
    for name, tier in tiers.items():
        bus = chance.choice(BUSES)
        size = Size(chance.choice(SIZES[bus]))
        count = min(MEMBERS[tier.level] + chance.randrange(3), MEMBERS_MAX)
        drives += [Drive(serial=_serial(chance), bus=bus, size=size, tier=name) for _ in range(count)]
    if chance.random() < 0.3:  # one that stands by, in no tier
        drives.append(Drive(serial=_serial(chance), bus="sas", size=Size("8TB")))
    chance.shuffle(drives)
    return Host(
        address=f"192.0.2.{10 + number}",
        identity=_identity(chance),
        os="debian-12",
        drives=tuple(drives),
        nics=tuple(_nic(chance, number, index) for index in range(chance.randrange(3))),
        tiers=tiers,
        ssh=Ssh(logins=(Login(name="admin", user="admin", agent=True),)),
    )


def _tier(chance: random.Random, root: str) -> Tier:
    level: Level = chance.choice(get_args(Level))
    filesystem: FilesystemType = chance.choice(get_args(FilesystemType))
    chunk = None if level == "raid1" else chance.choice(CHUNKS)
    return Tier(
        level=level,
        filesystem=filesystem,
        mount=f"{root}/{_name(chance, 2, 8)}",
        chunk=None if chunk is None else Size(chunk),
        bitmap=level != "raid0" and chance.random() < 0.7,
        options=chance.choice(OPTIONS),
    )


def _identity(chance: random.Random) -> Identity:
    if chance.random() < 0.5:
        return Identity(serial=_serial(chance))
    return Identity(uuid=str(UUID(int=chance.getrandbits(128), version=4)))


def _nic(chance: random.Random, host: int, index: int) -> Nic:
    mac = f"52:54:00:{chance.randrange(256):02x}:{host:02x}:{index:02x}"
    network, mtu = NETWORKS[index]
    return Nic(name=f"port{index}", mac=mac, mtu=mtu, addresses=(f"{network}.{host + 1}/24",))


def _name(chance: random.Random, shortest: int, longest: int) -> str:
    inner = chance.choices(string.ascii_lowercase + string.digits + "-", k=chance.randint(shortest, longest) - 2)
    ends = chance.choices(string.ascii_lowercase, k=2)
    return ends[0] + "".join(inner) + ends[1]


def _serial(chance: random.Random) -> str:
    """Return a serial number; some look like other things to YAML."""
    letters = chance.choice((string.digits, string.ascii_uppercase + string.digits, "0123456789E", "0123456789-_"))
    return "S" * chance.randrange(2) + "".join(chance.choices(letters, k=chance.randint(8, SERIAL_MAX - 1)))
