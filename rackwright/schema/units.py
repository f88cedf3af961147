"""Sizes and time spans with units, parsed into bytes and seconds."""

import re
from decimal import Decimal
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from rackwright.schema.problem import Problem

UNITS = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMGTP", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", start=1)},
}
PATTERN = rf"((?:0|[1-9][0-9]*)(?:\.[0-9]+)?) ?({'|'.join(UNITS)})"

SPAN = r"([1-9][0-9]*)(min|h)"


class Size(int):
    """Bytes from a text with a unit: ``Size("3.84TB")`` is 3840000000000. TB is 10^12 as on a drive's label, TiB 2^40.

    Raises:
        Problem: the text has no number, no unit or an unknown one, or is not a whole number of bytes above 0.
    """

    def __new__(cls, text: "str | Size") -> "Size":
        return text if isinstance(text, Size) else super().__new__(cls, parse_size(text))

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]
        return (f"{int(self)}B",)  # arguments of the new object that copy and pickle create

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        dump = core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True, when_used="json")
        return core_schema.no_info_plain_validator_function(cls, serialization=dump)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{PATTERN}$", "examples": ["3.84TB", "512KiB"]}


EXACT = {"exact_sizes": True}
"""Context of a dump to JSON that a model can read again: it writes sizes with a unit, as a fleet does."""


def _dump(size: int, info: core_schema.SerializationInfo) -> int | str:
    return exact_text(size) if info.context == EXACT else int(size)


def exact_text(size: int) -> str:
    """Return *size* as a text that `parse_size` reads as the same size."""
    text = format_size(size)
    number, unit = re.split(r"(?=[A-Za-z])", text, maxsplit=1)
    if Decimal(number) * UNITS[unit] == size:
        return text
    unit = max((unit for unit in UNITS if size % UNITS[unit] == 0), key=UNITS.__getitem__)
    return f"{size // UNITS[unit]}{unit}"


LARGEST = 1 << 64
"""Bytes, more than any device has."""
LONGEST = 10 * 366 * 24 * 3600


def parse_size(text: Any) -> int:
    """Return ``3.84TB`` as 3840000000000 bytes.

    Raises:
        Problem: the text is no size, as in `Size`.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", str(text))
    if isinstance(text, bool) or match is None:
        raise Problem(f"got {text!r}", "a size is a number and a unit", "Write it like 3.84TB or 512KiB")
    number, unit = match.groups()
    if re.match("0[0-9]", number):
        expected, help = "a size has no zeros before its number", f"Write {number.lstrip('0') or '0'}{unit}"
        raise Problem(f"got {text!r}", expected, help)
    if not unit:
        raise Problem(f"got {text}", "a size has a unit", "Add it: TB is 10^12 bytes as on labels, TiB is 2^40")
    if unit not in UNITS:
        near = next((name for name in UNITS if name.lower() == unit.lower()), None)
        help = f"Write {number}{near}" if near else "Take one of these"
        raise Problem(f"got the unit {unit!r}", f"units are {', '.join(UNITS)}", help)
    size = Decimal(number) * UNITS[unit]
    if size >= LARGEST:
        raise Problem(f"got {len(number)} digits of {unit}", "a size is less than 2^64 bytes", "Correct the number")
    if size != int(size) or not size:
        raise Problem(f"got {text!r}", "a size is a whole number of bytes, 1 or more", "Write it like 512KiB")
    return int(size)


def format_size(size_bytes: float) -> str:
    """Return a size with a unit and at most four digits: ``3.84TB``; powers of 1024 only for whole numbers."""
    size = int(size_bytes)
    for unit, factor in sorted(UNITS.items(), key=lambda item: -item[1]):
        if size >= factor and ("i" not in unit or size % factor == 0):
            number = Decimal(f"{Decimal(size) / factor:.4g}").normalize()
            return f"{number:f}{unit}"
    return f"{size}B"


def parse_time(text: str) -> int:
    """Return ``15min`` as 900 seconds, and ``6h`` as 21600.

    Raises:
        Problem: the text has no number, no unit, or another unit.
    """
    match = re.fullmatch(SPAN, text)
    if match is None:
        raise Problem(f"got {text!r}", "it is a number of min or h", "Write it like 15min or 6h")
    seconds = int(match[1]) * (60 if match[2] == "min" else 3600) if len(match[1]) < 10 else LARGEST
    if seconds > LONGEST:
        raise Problem(f"got a number of {len(match[1])} digits", "it is at most ten years", "Correct the number")
    return seconds


def format_time(seconds: float) -> str:
    """Return *seconds* as ``3 h 05 min``, or as minutes alone, rounded up."""
    hours, minutes = divmod(int(seconds // 60) + 1, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
