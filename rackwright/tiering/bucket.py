"""A bucket with archives: the names of its objects, and the reading of one."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rackwright.endpoints.s3_facts import diagnose_clock
from rackwright.errors import Diagnostic, EndpointUnreachable, StepFailed
from rackwright.foreign import ended_after, read_bounded
from rackwright.tiering.meter import Meter
from rackwright.tiering.onhost.transfer import BLOCK_BYTES, most_seconds

READ_SECONDS = 600
"""Time to read an object with a manifest or a canary."""
DIGEST = "sha256"
"""The key of an object's metadata with the digest of the file that was uploaded."""


@dataclass(frozen=True)
class Bucket:
    """A bucket with the client of the account that uses it."""

    name: str
    client: Any
    authority: str | None = None
    """Certificate of the authority of the store, in PEM, for hosts; None for those that a host trusts."""
    signing_key: str | None = None
    """The key that signs results of restore tests; None where no test runs."""

    def key(self, archive: str, path: str) -> str:
        return f"{archive}/files/{path}"

    def manifest_key(self, archive: str) -> str:
        return f"{archive}/manifest.json"

    def where(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def read(self, key: str, limit: int) -> bytes | None:
        """Return the content of an object of ours; None if there is none.

        Raises:
            InvalidData: The object is longer than *limit* bytes.
            EndpointUnreachable: It did not come in time.
        """
        body = self.body(key)
        try:
            return None if body is None else read_bounded(body, limit, time.monotonic() + READ_SECONDS)
        except TimeoutError:
            raise self._late(key, READ_SECONDS) from None

    def blocks(self, key: str, size: int, meter: Meter) -> Iterator[bytes] | None:
        """Return the content of an object in blocks, which *meter* counts; None if there is none.

        At most one byte more than *size* is read, so that the content of a longer object is another one.

        Raises:
            EndpointUnreachable: It did not come in time; raised by the iterator.
        """
        body = self.body(key)
        return None if body is None else self._blocks(body, key, size, meter)

    def _blocks(self, body: Any, key: str, size: int, meter: Meter) -> Iterator[bytes]:
        left = size + 1
        with contextlib.closing(body), self.in_time(body, key, size, meter):
            while left and (block := body.read(min(BLOCK_BYTES, left))):
                left -= len(block)
                meter.limiter.wait(len(block))
                meter.add(len(block))
                yield block

    @contextmanager
    def in_time(self, body: Any, key: str, size: int, meter: Meter) -> Iterator[None]:
        """Require that the block reads *size* bytes of *body* in time, at the lowest accepted rate.

        Raises:
            EndpointUnreachable: They did not come in time.
        """
        seconds = most_seconds(size, meter.bytes_per_second)
        try:
            with ended_after(seconds, body):
                yield
        except TimeoutError:
            raise self._late(key, seconds) from None

    def _late(self, key: str, seconds: float) -> EndpointUnreachable:
        problem, help = f"the object did not come within {seconds:.0f} s", "Check the store and the network"
        return EndpointUnreachable(Diagnostic(self.where(key), problem, help=help))

    def body(self, key: str) -> Any:
        """Return the stream of an object; None if there is none. Its reader bounds the size and the time."""
        try:
            return self.client.get_object(Bucket=self.name, Key=key)["Body"]
        except self.client.exceptions.NoSuchKey:
            return None


@contextmanager
def store_errors(bucket: Bucket) -> Iterator[None]:
    """Turn errors of botocore into errors of ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if clock := diagnose_clock(bucket.where(""), error):
            raise EndpointUnreachable(clock) from error
        answer = error.response.get("Error", {})
        problem = f"the store refuses {error.operation_name}: {answer.get('Code')} {answer.get('Message')}"
        help = "Check the rights of the account, and the free space of the store"
        raise StepFailed(Diagnostic(bucket.where(""), problem, help=help, note="nothing was deleted")) from error
    except BotoCoreError as error:
        problem = f"no answer from the store: {error}"
        help = "Run the same command again; it continues with the missing files"
        raise EndpointUnreachable(Diagnostic(bucket.where(""), problem, help=help)) from error
