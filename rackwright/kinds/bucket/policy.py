"""The policy of a bucket, from the rights that the fleet declares."""

from collections.abc import Mapping
from typing import Any

from rackwright.kinds.bucket.spec import BucketSpec
from rackwright.schema.object_store import RESTORE_TEST, Right

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
TRUSTED_KEYS = (RESTORE_TEST, "*/manifest.json", "*/canary.json")
"""Objects that rackwright trusts: the result of the restore test, and the manifests and canaries of archives. Only the
account that manages the store writes them. A star covers slashes as well."""


def document(spec: BucketSpec) -> dict[str, Any]:
    """Return the policy as a document of IAM; without statements if no user has a right."""
    bucket, statements = f"arn:aws:s3:::{spec.name}", []
    for user, right in sorted(spec.declared.access.items()):
        name = user if spec.policy_users == "access_key" else f"arn:aws:iam::{spec.account}:user/{user}"
        principal = {"AWS": [name]}
        for actions, resource in ((ON_BUCKET[right], bucket), (ON_OBJECTS[right], f"{bucket}/*")):
            common = {"Effect": "Allow", "Principal": principal}
            statements.append({**common, "Action": list(actions), "Resource": [resource]})
        if right == "write":
            resources = [f"{bucket}/{key}" for key in TRUSTED_KEYS]
            statements.append(
                {"Effect": "Deny", "Principal": principal, "Action": ["s3:PutObject"], "Resource": resources}
            )
    return {"Version": "2012-10-17", "Statement": statements}
