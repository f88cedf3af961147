"""The description of a drive's content that a consent repeats, computed from the probe's facts alone.

A description is a list of parts, joined by commas. Each part names one thing that a wipe erases in one write, so an
interrupted wipe leaves fewer parts and never new ones. Text from the drive is quoted and contains no comma.
"""

from __future__ import annotations

import re
from typing import Any

SEPARATOR = ", "
LONGEST_WORD = 40
TABLES = ("dos", "gpt", "PMBR")
"""Types of partition tables. A table is no content of its own while the kernel sees its partitions."""
NO_PARTITION_BYTES = 1024
"""Size at which the kernel reports an extended partition: it holds only the table of the logical partitions."""
RAW = "data without a signature"


class UnknownContent(Exception):
    """Part of a drive's content is unknown; the message says why."""


def quote(text: str) -> str:
    """Return *text* as one word of at most LONGEST_WORD characters; bytes other than plain ASCII become ``%xx``."""
    word = "".join(
        character
        if re.match(r"[A-Za-z0-9._:+-]", character)
        else "".join(f"%{byte:02x}" for byte in encode_utf8(character))
        for character in text
    )
    return word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}..."


def encode_utf8(character: str) -> bytes:
    return character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")


def describe(drive: dict[str, Any]) -> str:
    """Return the content of a drive; empty for a blank drive.

    Raises:
        UnknownContent: part of the content is unknown.
    """
    parts = [part for device in (drive, *read_value(drive, "parts")) for part in device_parts(device)]
    parts += [f"held by md {quote(uuid)}" for uuid in read_value(drive, "held")]
    if unwitnessed_parts(drive):
        parts.append(str(read_value(drive, "writes")))
    return SEPARATOR.join(dict.fromkeys(parts))


def device_parts(device: dict[str, Any]) -> list[str]:
    """Return the parts of a drive outside its partitions, or of one partition."""
    place = [device["place"]] if "place" in device else []
    parts = [
        [*place, *signature_words(signature), *filter(None, [witness])]
        for signature, witness in signatures_with_witness(device)
    ]
    return [" ".join(part) for part in (*parts, *([*place, text] for text in read_value(device, "sample")))]


def signature_words(signature: dict[str, Any]) -> list[str]:
    return [quote(signature[key]) for key in ("type", "uuid", "label") if signature[key]]


def signatures_with_witness(device: dict[str, Any]) -> list[tuple[dict[str, Any], str | None]]:
    """Return each signature with its witness: a digest of data that each mount or write changes; None if there is none.

    Raises:
        UnknownContent: the facts have another number of witnesses than of signatures.
    """
    signatures, witnesses = read_value(device, "signatures"), read_value(device, "witnesses")
    if len(signatures) != len(witnesses):
        raise UnknownContent("witnesses: their number differs from the number of signatures")
    return list(zip(signatures, witnesses))  # noqa: B905 - strict= is of Python 3.10


def describe_after_wipe(drive: dict[str, Any]) -> str:
    """Return the content after a finished wipe: samples between the ends of the drive, without cleared ranges."""
    if "erased_data" in drive:
        return str(read_value(drive, "erased_data"))
    return SEPARATOR.join(text for text in read_value(drive, "sample") if text.startswith("data "))


def unwitnessed_parts(drive: dict[str, Any]) -> list[str]:
    """Return the parts of a drive that can be written to without a change of its described content."""
    parts = read_value(drive, "parts")
    of_parts = [f"{part['place']} {kind}" for part in parts for kind in unwitnessed_types(part, part["size_bytes"])]
    return [*unwitnessed_types(drive, 0, bool(parts)), *of_parts]


def unwitnessed_types(device: dict[str, Any], size_bytes: int, has_partitions: bool = False) -> list[str]:
    """Return the types of content on one device that has no witness.

    Args:
        size_bytes: Size of a partition; 0 for a drive.
        has_partitions: Whether the kernel sees partitions, so that the device itself holds only their table.
    """
    signatures = signatures_with_witness(device)
    if not signatures:
        raw = [text for text in read_value(device, "sample") if not text.startswith("data ")]
        return [RAW] if raw else []
    tables = TABLES if has_partitions or 0 < size_bytes <= NO_PARTITION_BYTES else ()
    types = [quote(each["type"]) for each, witness in signatures if not witness and each["type"] not in tables]
    return list(dict.fromkeys(types))


def read_value(raw: dict[str, Any], key: str) -> Any:
    """Return the value under *key*.

    Raises:
        UnknownContent: the facts have no such key, or its value is unknown.
    """
    if key not in raw:
        raise UnknownContent(f"the facts have no {key}: an older version of the probe wrote them")
    value = raw[key]
    if isinstance(value, dict) and value.keys() == {"unknown"}:
        raise UnknownContent(f"{key}: {value['unknown']}")
    return value


def covers(consent: str | None, actual: str) -> bool:
    """Return whether *consent* names every part of the *actual* content, which an interrupted wipe makes smaller."""
    return consent is not None and {*actual.split(SEPARATOR)} <= {*consent.split(SEPARATOR), ""}
