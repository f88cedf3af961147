"""A client of botocore whose requests are answered in this process, so that thousands of answers take seconds."""

import io
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from rackwright.endpoints import s3
from rackwright.endpoints.bounded_session import BoundedSession

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
URL = "http://store.invalid"
Answer = tuple[int, Mapping[str, str], bytes]
LISTING = (
    f"<ListAllMyBucketsResult {NAMESPACE}><Owner><ID>o</ID></Owner><Buckets><Bucket><Name>models</Name>"
    "<CreationDate>2026-01-01T00:00:00Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>"
)
ANSWERS: Mapping[str, str] = {
    "listing": LISTING,
    "versions": f"<ListVersionsResult {NAMESPACE}><Name>models</Name><Version><Key>a</Key><VersionId>1</VersionId>"
    "<Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Version></ListVersionsResult>",
    "uploads": f"<ListMultipartUploadsResult {NAMESPACE}><Bucket>models</Bucket><Upload><Key>a</Key>"
    "<UploadId>1</UploadId></Upload></ListMultipartUploadsResult>",
    "lifecycle": f"<LifecycleConfiguration {NAMESPACE}><Rule><ID>a</ID><Status>Enabled</Status>"
    "<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>",
    "object-lock": f"<ObjectLockConfiguration {NAMESPACE}><Rule><DefaultRetention><Mode>COMPLIANCE</Mode>"
    "<Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>",
    "versioning": f"<VersioningConfiguration {NAMESPACE}><Status>Enabled</Status></VersioningConfiguration>",
    "encryption": f"<ServerSideEncryptionConfiguration {NAMESPACE}><Rule><ApplyServerSideEncryptionByDefault>"
    "<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
    "</ServerSideEncryptionConfiguration>",
    "tagging": f"<Tagging {NAMESPACE}><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>",
    "cors": f"<CORSConfiguration {NAMESPACE}><CORSRule><AllowedMethod>GET</AllowedMethod>"
    "<AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>",
    "acl": f"<AccessControlPolicy {NAMESPACE}><Owner><ID>o</ID></Owner><AccessControlList><Grant><Grantee "
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>p</ID></Grantee>'
    "<Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>",
    "ownershipControls": f"<OwnershipControls {NAMESPACE}><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership>"
    "</Rule></OwnershipControls>",
    "policy": '{"Statement": [{"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"]}]}',
    "objects": f"<ListBucketResult {NAMESPACE}><Name>models</Name><CommonPrefixes><Prefix>model-1/</Prefix>"
    "</CommonPrefixes><Contents><Key>model-1/files/a</Key><Size>1</Size><ETag>e</ETag></Contents></ListBucketResult>",
    "object": '{"archive": "model-1", "at": 1.0, "passed": true}',
    "error": "<Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message></Error>",
}
"""Good answers by operation."""
HEADERS: Mapping[str, str] = {
    "date": "Mon, 05 Jan 2026 00:00:00 GMT",
    "last-modified": "Mon, 05 Jan 2026 00:00:00 GMT",
    "server": "stand-in",
    "etag": '"0"',
}


def kind(url: str) -> str:
    """Return the key in `ANSWERS` of a request."""
    path, _, query = url.removeprefix(URL).partition("?")
    if path == "/":
        return "listing"
    if "list-type" in query:
        return "objects"
    return next((name for name in ANSWERS if name in query.split("&")[0].split("=")[0]), "object")


class Raw(io.BytesIO):
    """The body of an answer, as urllib3 gives it."""

    def stream(self, *_: Any, **__: Any) -> Any:
        yield self.read()


class Sender:
    """The session of botocore that sends nothing."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        self.answer = answer

    def send(self, request: Any) -> Any:
        from botocore.awsrequest import AWSResponse
        from botocore.compat import HTTPHeaders

        status, headers, body = self.answer(request.url)
        return AWSResponse(request.url, status, HTTPHeaders.from_dict(dict(headers)), Raw(body))

    def close(self) -> None:
        pass


def client(answer: Callable[[str], Answer], signed: bool = True) -> Any:
    """Return the client as `s3.session` makes it; from now on, *answer* answers its requests."""
    made = _client(signed)
    made._endpoint.http_session = BoundedSession(Sender(answer))
    return made


@cache
def _client(signed: bool) -> Any:
    """Return a client that sends no request again; to make one takes half a second."""
    attempts, s3.ATTEMPTS = s3.ATTEMPTS, 1
    try:
        return s3.session("us-east-1", URL, True)("rackwright" if signed else None, "secret" if signed else None)
    finally:
        s3.ATTEMPTS = attempts
