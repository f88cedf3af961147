"""Facts as one probe printed them in a virtual machine: gpu-01, a boot drive, four NVMe and four SAS drives."""

from pathlib import Path
from typing import Any

from rackwright.facts.facts import Facts
from tests.support import recordings

FOLDER = Path(__file__).parents[1] / "facts" / "recorded"
SITUATIONS = sorted(path.stem for path in FOLDER.glob("*.json"))

TODAY = "bonded"
"""Recorded by the probe as it is: the others are of an older one, which saw less. It is the machine of test_guest.

The health of its drives was written into it by hand, as QEMU's documents have it: NVMe has a log, SAS has none. So was
that nothing on it is encrypted, that it has no TPM, where on a member the data begins, which array its superblock
names, and that no array was cut in size. What is in partitions and how much was written is by hand as well, here and in
blank and foreign. The facts for the rules about undeclared things are by hand too.
"""


def raw(situation: str) -> dict[str, Any]:
    """Return a copy of its own for each caller."""
    loaded: dict[str, Any] = recordings.read(FOLDER / f"{situation}.json")
    return loaded


def gpus() -> dict[str, Any]:
    """Return what the probe printed of GPUs on a twin's stand-in for NVIDIA's library, for each caller its own."""
    loaded: dict[str, Any] = recordings.read(FOLDER.parent / "gpus.json")
    return loaded


def facts(situation: str) -> Facts:
    return Facts(raw(situation))
