"""Pure functions for the first state file of a host, from which the stand-in for NVIDIA's library answers."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml

from rackwright.schema.catalogue import GPUS, Gpu

PATH = "/var/lib/rackwright-twin/gpus"
IDLE = {"memory_used_bytes": 0, "utilisation_percent": 0, "temperature_celsius": 34, "power_mw": 25_000}
"""Measurements of an idle GPU. The values have no source."""


def text(host: str, models: Sequence[str]) -> str:
    """Return the state file of *host* with GPUs of *models*, names in the catalogue. The ids of a GPU never change."""
    lines = [f"# {' '.join(models)}"]
    for index, model in enumerate(models):
        lines += ["[gpu]", *(f"{key}={value}" for key, value in _lines(host, index, model))]
    return "".join(f"{line}\n" for line in lines)


def uuid(host: str, index: int) -> str:
    return f"GPU-{UUID(bytes=_digest(host, index))}"


def serial(host: str, index: int) -> str:
    """Return a serial number of thirteen digits, as boards have."""
    return f"{int.from_bytes(_digest(host, index)) % 10**13:013}"


def pci_address(index: int) -> str:
    return f"0000:{16 + index:02x}:00.0"


def _digest(host: str, index: int) -> bytes:
    return hashlib.blake2s(f"{host}/gpu{index}".encode(), digest_size=16).digest()


def _lines(host: str, index: int, model: str) -> Iterator[tuple[str, str | int]]:
    gpu = GPUS[model]
    board = _boards().get(gpu.pci[0], {})
    identity: dict[str, str | int] = {
        "uuid": uuid(host, index),
        "name": gpu.name,
        "pci_address": pci_address(index),
        "pci_id": gpu.pci[0],
        "memory_bytes": gpu.memory,
        "persistence": 0,
    }
    yield from identity.items()
    if board.get("serial", True):
        yield "serial", serial(host, index)
    for key, value in IDLE.items():
        yield key, value
        yield f"idle_{key}", value
    yield from _power(gpu, board)
    for limit, celsius in board.get("target_c", {}).items():
        yield f"temperature_target_{limit}", celsius
        if limit == "default":
            yield "temperature_target", celsius
    if clock := gpu.clock_max_mhz or board.get("clock_max_mhz"):
        yield from {"clock_mhz": clock, "clock_max_mhz": clock}.items()
    if gpu.ecc:
        yield from {"ecc": 1, "ecc_pending": 1, "uncorrected_errors": 0, "idle_uncorrected_errors": 0}.items()
    if "profiles" in board:
        yield from {"mig": 0, "mig_pending": 0, "mig_persists": int(board.get("mig_persists", False))}.items()
        yield from (("profile", profile) for profile in board["profiles"])


def _power(gpu: Gpu, board: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the power limits of a board if both ends of its range are known. The default limit may be the upper end."""
    least = gpu.power_min_watts or board.get("power_min_watts")
    most = gpu.power_max_watts or board.get("power_max_watts")
    if least and most:
        usual = gpu.power_default_watts or most
        limits = {"power_limit_default": usual, "power_limit": usual, "power_limit_min": least, "power_limit_max": most}
        yield from ((f"{limit}_mw", watts * 1000) for limit, watts in limits.items())


@cache
def _boards() -> dict[str, dict[str, Any]]:
    with (Path(__file__).parent / "boards.yaml").open(encoding="utf-8") as stream:
        boards: dict[str, dict[str, Any]] = yaml.safe_load(stream)
    return boards
