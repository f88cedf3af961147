"""The policy of a bucket, from the rights that the fleet declares."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.schema.object_store import INTERNAL_PARTS, RESTORE_TEST, Right

_LIST = ("s3:ListBucket",)
ON_BUCKET: Mapping[Right, tuple[str, ...]] = {
    "read_current": _LIST,
    "read": (*_LIST, "s3:ListBucketVersions"),
    "write": (*_LIST, "s3:ListBucketMultipartUploads"),
}
"""The actions on the bucket itself, by right."""
ON_OBJECTS: Mapping[Right, tuple[str, ...]] = {
    "read_current": ("s3:GetObject",),
    "read": ("s3:GetObject", "s3:GetObjectVersion"),
    "write": ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
}
"""The actions on its objects. None deletes, and none reads or sets a policy."""
OF_VERSIONS = {"Condition": {"StringLike": {"s3:versionid": ["?*"]}}}
"""The condition of requests for one version. MinIO reads a version with the right to read the current one."""
TRUSTED_KEYS = (RESTORE_TEST, "*/manifest.json", "*/canary.json")
"""Objects that rackwright trusts: the result of the restore test, and the manifests and canaries of archives. Only the
account that manages the store writes them. A star covers slashes as well."""
ON_INTERNAL_KEYS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")
"""Actions that no user may take on the store's own files: a version that is read or written as a file needs no right on
versions. Versity's gateway refuses a policy with an action that it does not know, as GetObjectVersion was."""


def user_documents(spec: BucketSpec) -> dict[str, dict[str, Any]]:
    """Return the policy of each user, for a store that attaches policies to users instead of buckets."""
    whole = document(spec)
    return {
        user: {
            "Version": whole["Version"],
            "Statement": [
                {key: value for key, value in statement.items() if key != "Principal"}
                for statement in whole["Statement"]
                if user in statement["Principal"]["AWS"]
            ],
        }
        for user in spec.declared.access
    }


def document(spec: BucketSpec) -> dict[str, Any]:
    """Return the policy as a document of IAM; without statements if no user has a right."""
    bucket, statements, users = f"arn:aws:s3:::{spec.name}", [], []
    for user, right in sorted(spec.declared.access.items()):
        name = user if spec.policy_users != "arn" else f"arn:aws:iam::{spec.account}:user/{user}"
        users.append(name)
        for actions, resource in ((ON_BUCKET[right], bucket), (ON_OBJECTS[right], f"{bucket}/*")):
            statements.append(_statement("Allow", [name], actions, [resource]))
        if spec.policy_users == "minio" and "s3:GetObjectVersion" not in ON_OBJECTS[right]:
            statements.append(_statement("Deny", [name], ("s3:GetObject",), [f"{bucket}/*"]) | OF_VERSIONS)
        if right == "write":
            trusted = [f"{bucket}/{key}" for key in TRUSTED_KEYS]
            statements.append(_statement("Deny", [name], ("s3:PutObject",), trusted))
    if users:
        internal = [f"{bucket}/{key}" for key in _internal_keys()]
        statements.append(_statement("Deny", users, ON_INTERNAL_KEYS, internal))
    return {"Version": "2012-10-17", "Statement": statements}


def _internal_keys() -> Iterator[str]:
    """Yield the patterns of keys that `is_internal` recognises; a star of a policy covers slashes as well."""
    for part in INTERNAL_PARTS:
        for key in (part,) if part.startswith("*") else (part, f"*/{part}"):
            yield from (key, f"{key}/*")


def _statement(effect: str, users: Sequence[str], actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    principal = {"AWS": [*users]}
    return {"Effect": effect, "Principal": principal, "Action": [*actions], "Resource": [*resources]}
