"""The one reader of foreign data: bytes and JSON from others, bounded in size, depth, number and time."""

from workloads.foreign import (
    EndableConnection,
    InvalidData,
    TooLarge,
    ended_after,
    excerpt,
    open_regular,
    parse_json,
    parse_object,
    read_bounded,
    read_file,
    within,
)

__all__ = [
    "EndableConnection",
    "InvalidData",
    "TooLarge",
    "ended_after",
    "excerpt",
    "open_regular",
    "parse_json",
    "parse_object",
    "read_bounded",
    "read_file",
    "within",
]
