"""The retention of the objects of an archive, each compared with the one that its bucket declares.

The default of a bucket says what new objects get. In mode governance an account with a special right may shorten or
remove the retention of an object, and the default stays as it was.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from rackwright.errors import Diagnostic
from rackwright.schema.object_store import Retention
from rackwright.tiering import canary
from rackwright.tiering.bucket import Bucket, store_errors
from rackwright.tiering.manifest import Manifest

AT_ONCE = 16
"""Questions to the store at a time."""
SLACK = timedelta(days=1)
"""Most time from the beginning of an upload, from which some stores count, to its end; half of a retention at most."""
NONE = ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest")
"""Errors for an object without retention. Source: S3, GetObjectRetention; InvalidRequest of a bucket without a lock."""


def find_shorter(bucket: Bucket, manifest: Manifest, declared: Retention) -> list[Diagnostic]:
    """Return a diagnostic for each object of the archive with less retention than *declared*.

    An object that is missing, and one whose retention would be over by now, has none.

    Raises:
        EndpointUnreachable: the store does not answer.
        StepFailed: the store refuses a request.
    """
    with store_errors(bucket):
        uploaded = dict(_upload_times(bucket, manifest.name))
        keys = [bucket.manifest_key(manifest.name), *(bucket.key(manifest.name, file.path) for file in manifest.files)]
        keys += [canary.key(manifest.name)] if manifest.canary else []
        present = [key for key in keys if key in uploaded]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = [*pool.map(lambda key: _retention(bucket, key), present)]
    problems = []
    for key, retention in zip(present, found, strict=True):
        until = uploaded[key] + timedelta(days=declared.days)
        needed = until - min(SLACK, timedelta(days=declared.days) / 2)
        if until > datetime.now(UTC) and (problem := _problem(retention, declared, needed)):
            problems.append(_diagnostic(bucket.where(key), problem, declared, until))
    return problems


def _upload_times(bucket: Bucket, name: str) -> Iterator[tuple[str, datetime]]:
    """Yield key and time of the upload of each object of an archive."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=f"{name}/")
    for page in pages:
        for each in page.get("Contents", ()):
            yield each["Key"], each["LastModified"]


def _retention(bucket: Bucket, key: str) -> Mapping[str, Any]:
    """Return mode and end of the retention of an object; empty without one."""
    from botocore.exceptions import ClientError

    try:
        found: Mapping[str, Any] = bucket.client.get_object_retention(Bucket=bucket.name, Key=key)["Retention"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in NONE:
            return {}
        raise
    return found


def _problem(retention: Mapping[str, Any], declared: Retention, needed: datetime) -> str:
    """Return what a retention lacks; empty if nothing."""
    mode, end = str(retention.get("Mode", "")).lower(), retention.get("RetainUntilDate")
    if mode not in ("governance", "compliance") or not isinstance(end, datetime):
        return "the object has no retention"
    if end < needed:
        return f"the object is retained until {_format(end)} only"
    if declared.mode == "compliance" and mode != "compliance":
        return "the object is retained in mode governance, which an account may shorten"
    return ""


def _diagnostic(where: str, problem: str, declared: Retention, until: datetime) -> Diagnostic:
    expected = f"{declared.days} days from its upload in mode {declared.mode}, until {_format(until)}"
    help = "Set its retention again with `aws s3api put-object-retention`, and find out which account shortened it"
    note = "an object from before the declaration of `retention` or of more days keeps what it had"
    return Diagnostic(where, problem, expected, help, note=note)


def _format(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
