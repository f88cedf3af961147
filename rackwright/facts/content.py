"""The content of a drive, in the words that a consent repeats: a pure function of what the probe has read of it.

A content is a list of parts joined by commas. A part names one thing that a wipe erases at once, so that a wipe that
is cut off leaves fewer parts and no other ones. Every text that comes from the drive is quoted, and holds no comma.
"""

from __future__ import annotations

import re
from typing import Any

SEPARATOR = ", "
LONGEST_WORD = 40
TABLES = ("dos", "gpt", "PMBR")
"""Partition tables: what counts is in the partitions that the kernel sees."""
NO_PARTITION_BYTES = 1024
"""Size of an extended partition as the kernel has it: the table of those inside."""
RAW = "data without a signature"


class UnknownContent(Exception):
    """Some of what is on a drive is unknown; the message says why."""


def quoted(text: str) -> str:
    """Return *text* as one word: all but plain ASCII in the form of a URL, and not too long."""
    word = "".join(
        character if re.match(r"[A-Za-z0-9._:+-]", character) else "".join(f"%{byte:02x}" for byte in utf8(character))
        for character in text
    )
    return word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}..."


def utf8(character: str) -> bytes:
    return character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")


def content(drive: dict[str, Any]) -> str:
    """Return what is on a drive, empty for a blank one.

    Raises:
        UnknownContent: some of it is unknown.
    """
    parts = [part for device in (drive, *known_of(drive, "parts")) for part in parts_of(device)]
    parts += [f"held by md {quoted(uuid)}" for uuid in known_of(drive, "held")]
    if unnoticed(drive):
        parts.append(str(known_of(drive, "writes")))
    return SEPARATOR.join(dict.fromkeys(parts))


def parts_of(device: dict[str, Any]) -> list[str]:
    """Return the parts of a drive itself, or of one of its partitions."""
    place = [device["place"]] if "place" in device else []
    named = [[*place, *words(signature), *filter(None, [witness])] for signature, witness in signed(device)]
    return [" ".join(part) for part in (*named, *([*place, text] for text in known_of(device, "sample")))]


def words(signature: dict[str, Any]) -> list[str]:
    return [quoted(signature[key]) for key in ("type", "uuid", "label") if signature[key]]


def signed(device: dict[str, Any]) -> list[tuple[dict[str, Any], str | None]]:
    """Return each signature with its witness: the digest of what each mount or write changes, None without one."""
    signatures, witnesses = known_of(device, "signatures"), known_of(device, "witnesses")
    if len(signatures) != len(witnesses):
        raise UnknownContent("witnesses: they are not those of the signatures")
    return list(zip(signatures, witnesses))  # noqa: B905 - strict= is of Python 3.10


def once_erased(drive: dict[str, Any]) -> str:
    """Return what will be on it when a wipe is done: the samples between its ends, where no partition was erased."""
    if "erased_data" in drive:
        return str(known_of(drive, "erased_data"))
    return SEPARATOR.join(text for text in known_of(drive, "sample") if text.startswith("data "))


def unnoticed(drive: dict[str, Any]) -> list[str]:
    """Return what on a drive can be written to without any part of the content changing."""
    parts = known_of(drive, "parts")
    found = [f"{part['place']} {what}" for part in parts for what in silent(part, part["size_bytes"])]
    return [*silent(drive, 0, bool(parts)), *found]


def silent(device: dict[str, Any], size: int, divided: bool = False) -> list[str]:
    """Return the types of what is on one device and has no witness.

    Args:
        size: In bytes, of a partition.
        divided: The kernel sees its partitions, so a table is all that is on the device itself.
    """
    signatures = signed(device)
    if not signatures:
        raw = [text for text in known_of(device, "sample") if not text.startswith("data ")]
        return [RAW] if raw else []
    tables = TABLES if divided or 0 < size <= NO_PARTITION_BYTES else ()
    types = [quoted(each["type"]) for each, witness in signatures if not witness and each["type"] not in tables]
    return list(dict.fromkeys(types))


def known_of(raw: dict[str, Any], key: str) -> Any:
    if key not in raw:
        raise UnknownContent(f"the facts have no {key}: they are of an older version")
    value = raw[key]
    if isinstance(value, dict) and value.keys() == {"unknown"}:
        raise UnknownContent(f"{key}: {value['unknown']}")
    return value


def covers(consent: str | None, found: str) -> bool:
    """Whether all that was *found* is given up: less than that is what an interrupted wipe leaves."""
    return consent is not None and {*found.split(SEPARATOR)} <= {*consent.split(SEPARATOR), ""}
