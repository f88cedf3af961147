"""A bucket with an object lock as the second place of heads.

Each head is an object of its own, whose key has the whole line. A listing of all versions therefore has every head,
also those with a delete marker over them, and no account can change a key. The bucket keeps each version until its
retention ends.
"""

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rackwright.errors import Diagnostic, HostUnreachable, SetupError

SCHEME = "s3+"
SUFFIX = ".head"
PART = 128
"""Characters between two slashes of a key: some stores limit them to 255."""
KEY_BYTES = 1024
"""Maximum length of a key. Source: Amazon S3, Creating object key names."""
ACCESS_KEY, SECRET_KEY, REGION, AUTHORITY = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "AWS_CA_BUNDLE",
)
"""Variables with the credentials, the region and the file of certificates, as the tools of S3 name them."""
USUAL_REGION = "us-east-1"
T = TypeVar("T")


@dataclass(frozen=True)
class LockedBucket:
    """A prefix of a bucket with an object lock."""

    name: str
    url: str
    bucket: str
    prefix: str
    """Empty, or ends with a slash."""

    @staticmethod
    def parse(text: str) -> "LockedBucket | None":
        """Return the bucket that ``s3+https://HOST[:PORT]/BUCKET[/PREFIX]`` names; None for another text."""
        parts = urlsplit(text.removeprefix(SCHEME))
        bucket, _, prefix = parts.path.strip("/").partition("/")
        if not text.startswith(SCHEME) or parts.scheme not in ("https", "http") or not parts.hostname or not bucket:
            return None
        if parts.username or parts.query or parts.fragment:
            return None  # credentials have no place in a text that messages repeat
        return LockedBucket(text, f"{parts.scheme}://{parts.netloc}", bucket, f"{prefix}/" if prefix else "")

    def read(self) -> bytes:
        return self._ask(self._read)

    def append(self, line: bytes) -> None:
        key = self._key(line)
        if len(key) > KEY_BYTES:
            raise self._failure(f"the key of the head would have {len(key)} bytes, of at most {KEY_BYTES}")
        self._ask(lambda client: self._append(client, key, line))

    def _read(self, client: Any) -> bytes:
        pages = client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=self.prefix)
        # the entries of delete markers need no look: the versions below them are listed too
        keys = dict.fromkeys(version["Key"] for page in pages for version in page.get("Versions", ()))
        return b"".join(line for key in keys if (line := self._line(key)))

    def _append(self, client: Any, key: str, line: bytes) -> None:
        answer = client.get_object_lock_configuration(Bucket=self.bucket)
        if not answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention"):
            raise self._failure("the bucket has no object lock with a default retention, so that heads can be deleted")
        client.put_object(Bucket=self.bucket, Key=key, Body=line, ContentType="application/json")

    def _key(self, line: bytes) -> str:
        text = base64.urlsafe_b64encode(line).decode()
        parts = (text[start : start + PART] for start in range(0, len(text), PART))
        return f"{self.prefix}{'/'.join(parts)}{SUFFIX}"

    def _line(self, key: str) -> bytes:
        """Return the line in *key*; for the key of another object, a line that is no head, which a reader reports."""
        text = key.removeprefix(self.prefix).removesuffix(SUFFIX).replace("/", "")
        try:
            line = base64.b64decode(text, b"-_", validate=True)
        except (binascii.Error, ValueError):
            line = b""
        return line if line.endswith(b"\n") and self._key(line) == key else b"not a head\n"

    def _ask(self, request: Callable[[Any], T]) -> T:
        from botocore.exceptions import BotoCoreError, ClientError

        from rackwright.endpoints.s3_facts import diagnose, format_error

        client = _client(self.url, os.environ)
        try:
            return request(client)
        except ClientError as error:
            raise self._failure(f"the store refuses: {format_error(error)}") from None
        except BotoCoreError as error:
            raise self._failure(diagnose(self.name, self.url, error).problem) from None

    def _failure(self, problem: str) -> HostUnreachable:
        help = "Correct the cause; `rackwright log push` copies the head then"
        return HostUnreachable(Diagnostic(f"second place {self.name}", problem, help=help))


def _client(url: str, environment: Mapping[str, str]) -> Any:
    """Return a client of botocore for the store at *url*.

    Raises:
        SetupError: There are no credentials, or boto3 is not installed.
    """
    from rackwright.endpoints.s3 import session

    access_key, secret_key = environment.get(ACCESS_KEY), environment.get(SECRET_KEY)
    if not access_key or not secret_key:
        missing = SECRET_KEY if access_key else ACCESS_KEY
        help = f"Set {ACCESS_KEY} and {SECRET_KEY} to those of an account that may list and write the bucket"
        raise SetupError(Diagnostic(missing, "the credentials of the second place are not set", help=help))
    make = session(environment.get(REGION, USUAL_REGION), url, environment.get(AUTHORITY) or True)
    return make(access_key, secret_key)
