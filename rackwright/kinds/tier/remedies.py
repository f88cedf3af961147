"""Advice about an array and its filesystem: one text for each property, chosen by what was found there.

No text advises to erase, make or remove anything: an array or filesystem that differs may bear data.
"""

from collections.abc import Mapping

from rackwright.core.contract import Claim, Want

MOVE = "declare another tier on other drives, and move the data there"
RUN_UP = "run up, which sets it while the array is in use"
NO_ARRAY = (
    "no array of that name is there: look for it with `cat /proc/mdstat` and `mdadm --examine --scan`; up assembles it"
    " from all its members, and makes nothing while one of them is missing"
)
NO_FILESYSTEM = (
    "nothing is made over it: look with `findmnt`, `wipefs --no-act` and `blkid --probe` on the host; where only a"
    " superblock is damaged the files may be whole, and `e2fsck -n` or `xfs_repair -n` shows that and writes nothing"
)
SUCCESSOR = "name a successor with `rackwright drive replace STACK {host} OLD NEW`"
ARRAY: Mapping[str, str] = {
    "level": f"declare the level that the array has; for another one {MOVE}",
    "devices": "declare as many drives as the array has places: up adds drives, and takes no place away",
    "members": f"compare the declared drives with `mdadm --detail`; for a drive that failed {SUCCESSOR}",
    "state": (
        f"degraded: find the missing member with `mdadm --detail`, and {SUCCESSOR}; failed or inactive: write nothing"
        " to its drives, and bring back those that are missing, which `mdadm --examine` shows"
    ),
    "superblocks_lost": (
        "a member without a superblock is missing after the next start: up has md write it again; where something else"
        f" was written to a member, find out by whom, leave the drive as it is, and {SUCCESSOR}"
    ),
    "array_size": RUN_UP,
    "chunk_kib": f"declare the chunk that the array has; for another one {MOVE}",
    "metadata": f"take the array over as it is, by `array: UUID` at the tier, or {MOVE}",
    "bitmap": RUN_UP,
    "ppl": RUN_UP,
    "sync_speed_max_kib": RUN_UP,
    "sync_limit": RUN_UP,
    "member_flags": RUN_UP,
    "member_kib": (
        "where less of each member is used than is there, run up, which takes the rest; where more is used than is"
        " declared, declare the size that the drives have"
    ),
}
SPARE = (
    "a spare has taken a member's place, or is gone: put a drive in, and name it in the place of the missing one with"
    " `rackwright drive replace STACK {host} OLD NEW`; it waits from then on"
)
DISAGREES = (
    "parity and data disagree: count again by writing `check` to md/sync_action; where the count stays, find the drive"
    " that fails by its health and the kernel's log, and replace it; compare the files with a copy before `repair` is"
    " written to md/sync_action, which takes the data as right"
)
THEIR_MOUNT = "change it where it is mounted from, as /etc/fstab, and mount it again"
"""Remedy of a tier that was taken over."""
HALF_SCRUBBED = (
    "a check of the array ended before its end, and the rest of the drives was not read: run `systemctl start` for the"
    " scrub of the tier, or write `check` to md/sync_action; md goes on where it stopped"
)
MOUNT: Mapping[str, str] = {
    "undeclared_options": (
        "find out who mounted it with these options; stop what uses the tier, then unmount it and mount it again, or"
        " declare the options"
    ),
    "swap_files": "find out who needs it; run `swapoff` for that file, and use another place for swap",
}
_GEOMETRY = f"a filesystem keeps its geometry, and only its speed depends on that; for another one {MOVE}"
FILESYSTEM: Mapping[str, str] = {
    "type": f"declare the filesystem that is there; for another one {MOVE}",
    "stripe_kib": _GEOMETRY,
    "width_kib": _GEOMETRY,
    "fills_array": "run up, which lets it grow while it is in use",
}


def array(thing: str, host: str, want: Mapping[str, Want]) -> Claim:
    """Return the claim about an array, with the advice about each property."""
    advice = {name: text.format(host=host) for name, text in ARRAY.items()}
    return Claim(thing, want, remedies=advice, remedy_absent=NO_ARRAY)


def mount(thing: str, want: Mapping[str, Want], remedy: str) -> Claim:
    """Return the claim about a mount, with *remedy* for all properties without advice of their own."""
    return Claim(thing, want, remedy=remedy, remedies=MOUNT)


def filesystem(thing: str, want: Mapping[str, Want]) -> Claim:
    """Return the claim about a filesystem, with the advice about each property."""
    return Claim(thing, want, remedies=FILESYSTEM, remedy_absent=NO_FILESYSTEM)
