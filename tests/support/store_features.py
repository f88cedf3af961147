"""Each feature of an object store: a request for it, and a check of its effect."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from rackwright.endpoints.s3_facts import format_error
from tests.support.object_store import Server

KEY, USER = "object", "trainer"
LOCK = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
RULE = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
UPLOADS = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}}
UPLOADS |= {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}
SSE = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
BLOCK = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)


def probe(server: Server, set_rights: Callable[[Any, str], None]) -> Mapping[str, str]:
    """Return what each feature of *server* does: ``yes``, or the error or the reason for ``no``.

    Args:
        set_rights: Gives `USER` the right to read and write a bucket, by a client of the manager.
    """
    client = server.client()
    found: dict[str, str] = {}
    for name, works in FEATURES.items():
        bucket = f"probe-{name.replace(' ', '-')}"
        try:
            client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=name in LOCKED)
            if name == "policy":
                set_rights(client, bucket)
            found[name] = "yes" if works(server, bucket) else "no: the request is accepted without an effect"
        except client.exceptions.ClientError as error:
            found[name] = f"no: {format_error(error)}"
    return found


def _code(client: Any, operation: str, **parameters: Any) -> str:
    try:
        getattr(client, operation)(**parameters)
    except client.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def _versioning(server: Server, bucket: str) -> bool:
    client = server.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket=bucket, Key=KEY, Body=b"1")
    client.put_object(Bucket=bucket, Key=KEY, Body=b"2")
    client.delete_object(Bucket=bucket, Key=KEY)
    version = first.get("VersionId")
    return bool(version and client.get_object(Bucket=bucket, Key=KEY, VersionId=version)["Body"].read() == b"1")


def _retention(server: Server, bucket: str) -> bool:
    client = server.client()
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=LOCK)
    version = client.put_object(Bucket=bucket, Key=KEY, Body=b"1")["VersionId"]
    refused = _code(client, "delete_object", Bucket=bucket, Key=KEY, VersionId=version)
    return bool(refused) and client.get_object(Bucket=bucket, Key=KEY)["Body"].read() == b"1"


def _lock(server: Server, bucket: str) -> bool:
    client = server.client()
    version = client.put_object(Bucket=bucket, Key=KEY, Body=b"1")["VersionId"]
    client.put_object_legal_hold(Bucket=bucket, Key=KEY, LegalHold={"Status": "ON"})
    return bool(_code(client, "delete_object", Bucket=bucket, Key=KEY, VersionId=version))


def _lifecycle(server: Server, bucket: str) -> bool:
    client = server.client()
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [RULE]})
    [rule] = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    return bool(rule["Expiration"]["Days"] == 1)


def _upload_expiry(server: Server, bucket: str) -> bool:
    client = server.client()
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [UPLOADS]})
    [rule] = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    return bool(rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 1)


def _policy(server: Server, bucket: str) -> bool:
    user, stranger = server.client(USER), server.client("auditor")
    user.put_object(Bucket=bucket, Key=KEY, Body=b"1")
    return bool(_code(stranger, "get_object", Bucket=bucket, Key=KEY))


def _encryption(server: Server, bucket: str) -> bool:
    client = server.client()
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=SSE)
    client.put_object(Bucket=bucket, Key=KEY, Body=b"1")
    return bool(client.head_object(Bucket=bucket, Key=KEY).get("ServerSideEncryption") == "AES256")


def _tags(server: Server, bucket: str) -> bool:
    client, tags = server.client(), [{"Key": "team", "Value": "models"}]
    client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    return bool(client.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags)


def _public_access_block(server: Server, bucket: str) -> bool:
    """A policy that lets in every client is refused, or has no effect."""
    client = server.client()
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=BLOCK)
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    _code(client, "put_bucket_policy", Bucket=bucket, Policy=policy)
    return bool(_code(server.client(None), "list_objects_v2", Bucket=bucket))


def _conditional_write(server: Server, bucket: str) -> bool:
    client = server.client()
    client.put_object(Bucket=bucket, Key=KEY, Body=b"1", IfNoneMatch="*")
    again = _code(client, "put_object", Bucket=bucket, Key=KEY, Body=b"2", IfNoneMatch="*")
    return again == "PreconditionFailed" and client.get_object(Bucket=bucket, Key=KEY)["Body"].read() == b"1"


def _ranges(server: Server, bucket: str) -> bool:
    client = server.client()
    client.put_object(Bucket=bucket, Key=KEY, Body=bytes(range(100)))
    answer = client.get_object(Bucket=bucket, Key=KEY, Range="bytes=10-19")
    return bool(answer["Body"].read() == bytes(range(10, 20)) and answer["ContentRange"] == "bytes 10-19/100")


FEATURES: Mapping[str, Callable[[Server, str], bool]] = {
    "versioning": _versioning,
    "object lock": _lock,
    "retention": _retention,
    "lifecycle": _lifecycle,
    "upload expiry": _upload_expiry,
    "policy": _policy,
    "encryption": _encryption,
    "tags": _tags,
    "public access block": _public_access_block,
    "conditional write": _conditional_write,
    "range": _ranges,
}
"""A function for each feature: it returns whether a setting that the server accepts has an effect."""
LOCKED = ("object lock", "retention")
"""Features of buckets that are created with a lock."""
