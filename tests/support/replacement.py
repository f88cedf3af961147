"""Replacements of drives, as an operator declares them."""

from typing import Any

from tests.support.lab import Lab

HOST, SIZE = "alpha", "256MB"
SYNC_SECONDS = 600


def swap(lab: Lab, old: str, new: str) -> None:
    """Declare *new* in the place of *old*, whose line goes."""

    def change(content: Any) -> None:
        drives = content["hosts"][HOST]["drives"]
        leaving, coming = (next(drive for drive in drives if drive["serial"] == serial) for serial in (old, new))
        coming["tier"] = leaving["tier"]
        drives.remove(leaving)

    lab.edit(change)


def keep_line(lab: Lab, old: str, new: str) -> None:
    """Declare *new* in the place of *old*, which stays in the machine and serves nothing."""

    def change(content: Any) -> None:
        drives = {drive["serial"]: drive for drive in content["hosts"][HOST]["drives"]}
        drives[new]["tier"] = drives[old].pop("tier")

    lab.edit(change)
