"""The trial of rights: requests with a user's own key that change nothing, whatever the store answers."""

import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from rackwright.endpoints.s3_facts import AT_ONCE, format_error
from rackwright.hosts.reading_threads import reading_threads
from rackwright.schema.object_store import RESTORE_TEST, TRIED

WRONG_KEY = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "XMinioInvalidAccessKeyId")
"""Codes of a refusal of the key itself, which says nothing about rights."""


def try_rights(client: Any, users: Mapping[str, Any], buckets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what each user may do with each bucket.

    A value is the sorted list of the operations of `TRIED` that the store allows, or ``{"unknown": reason}``.

    Args:
        client: A client of the account that manages the buckets.
        users: A client by user, or the reason why there is none.
    """
    rights: dict[str, dict[str, Any]] = {bucket: {} for bucket in buckets}
    trials = [(bucket, user) for bucket in buckets for user in users]
    if not trials:
        return rights
    with reading_threads(AT_ONCE) as pool:
        keys = dict(zip(buckets, pool.map(lambda bucket: _first_key(client, bucket), buckets), strict=True))
        answers = pool.map(lambda trial: _rights(users[trial[1]], trial[0], keys[trial[0]]), trials)
        for (bucket, user), answer in zip(trials, answers, strict=True):
            rights[bucket][user] = answer
    return rights


def _first_key(client: Any, bucket: str) -> str | None:
    """Return the key of an object, whose answers tell a missing right from a missing object; None without one."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = client.list_objects_v2(Bucket=bucket, MaxKeys=1).get("Contents") or ()
        return str(found[0]["Key"]) if found else None
    except (BotoCoreError, ClientError):
        return None


def _rights(client: Any, bucket: str, key: str | None) -> Any:
    if isinstance(client, str):
        return {"unknown": client}
    allowed = []
    for name in TRIED:
        answer = _try(lambda name=name: _TRIALS[name](client, bucket, key))  # type: ignore[misc]
        if isinstance(answer, dict):
            return answer
        if answer:
            allowed.append(name)
    return sorted(allowed)


def _try(request: Callable[[], Any]) -> Any:
    """Return whether the store allows *request*, or why that is unknown."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        request()
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in WRONG_KEY:
            return {"unknown": f"the store refuses the user's key: {format_error(error)}"}
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return False
        # a server that looks for the object, the version or the upload has allowed the request
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            return True
        return {"unknown": format_error(error)}
    except BotoCoreError as error:
        return {"unknown": str(error)}
    return True


def _get(client: Any, bucket: str, key: str | None, **version: str) -> None:
    client.get_object(Bucket=bucket, Key=key or _absent(), Range="bytes=0-0", **version)["Body"].close()


def _put(client: Any, bucket: str, key: str) -> None:
    """Send a part of an upload that does not exist, which needs the right to write and writes nothing."""
    client.upload_part(Bucket=bucket, Key=key, UploadId=_version(), PartNumber=1, Body=b"")


def _absent() -> str:
    return f"no-such-object-{secrets.token_hex(8)}"


def _version() -> str:
    """Return the id of a version or of an upload that does not exist, in the form of ids that servers accept."""
    return str(uuid.uuid4())


_TRIALS: Mapping[str, Callable[[Any, str, str | None], Any]] = {
    "list": lambda client, bucket, key: client.list_objects_v2(Bucket=bucket, MaxKeys=1),
    "list versions": lambda client, bucket, key: client.list_object_versions(Bucket=bucket, MaxKeys=1),
    "get": _get,
    "get versions": lambda client, bucket, key: _get(client, bucket, key, VersionId=_version()),
    "put": lambda client, bucket, key: _put(client, bucket, _absent()),
    "put trusted": lambda client, bucket, key: _put(client, bucket, RESTORE_TEST),
    "delete versions": lambda client, bucket, key: client.delete_object(
        Bucket=bucket, Key=_absent(), VersionId=_version()
    ),
    "read policy": lambda client, bucket, key: client.get_bucket_policy(Bucket=bucket),
}
