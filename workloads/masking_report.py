"""The report of a masking beside its data: which policy made which bytes."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from workloads.foreign import InvalidData, open_regular, parse_object, read_file

FILE = "masking.json"
"""Name of the report in a directory, and the end of its name beside a file."""
BYTES_MAX = 64 << 20
"""Most bytes of a report: it lists each file."""


def report_path(target: Path) -> Path:
    """Return the file with the report of *target*, a masked file or directory."""
    return target / FILE if target.is_dir() else target.with_name(f"{target.name}.{FILE}")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of the content of *path*, which may be a link to a regular file."""
    with open_regular(path, follow=True) as file:
        return sha256_of_file(file)


def sha256_of_file(file: BinaryIO) -> str:
    """Return the SHA-256 digest of the rest of *file*."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def listed_files(report: bytes) -> dict[str, str] | None:
    """Return the digest of each file that *report*, the content of a report, lists; None if it is no report."""
    try:
        content = parse_object(report, BYTES_MAX)
    except InvalidData:
        return None
    entries = content.get("files")
    if not _is_digest(content.get("policy_sha256")) or not isinstance(entries, list) or not entries:
        return None
    if not all(
        isinstance(each, dict) and _is_name(each.get("name")) and _is_digest(each.get("sha256")) for each in entries
    ):
        return None
    listed = {each["name"]: each["sha256"] for each in entries}
    return listed if len(listed) == len(entries) else None


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_name(value: Any) -> bool:
    """Return whether *value* is the path of a file in a directory, in its one form."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    path = PurePosixPath(value)
    return str(path) == value and not path.is_absolute() and ".." not in path.parts and value != "."


def report_problem(target: Path, digests: Mapping[Path, str], policy_sha256: str, whole: bool = False) -> str:
    """Return the problem of the report of *target*; empty if it is of that policy and of the files of *digests*.

    Args:
        digests: Files of *target* with the digests of what is read from them.
        whole: Whether the report has no other file.
    """
    try:
        content = parse_object(read_file(report_path(target), BYTES_MAX), BYTES_MAX)
    except OSError:
        return f"there is no report {report_path(target).name}"
    except InvalidData:
        return "the report is damaged"
    if content.get("policy_sha256") != policy_sha256:
        return "the report is of another policy"
    root = target if target.is_dir() else target.parent
    entries = content.get("files")
    listed = {str(each.get("name")): each.get("sha256") for each in entries or () if isinstance(each, dict)}
    found = {str(path.relative_to(root)): sha256 for path, sha256 in digests.items()}
    same = found == listed if whole else found.items() <= listed.items()
    return "" if same else "the files are not those of the report"
