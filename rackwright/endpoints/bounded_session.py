"""The sending of requests by botocore, with bounds of time and of size for each answer."""

import io
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from rackwright.endpoints.typed_answers import Stream, answer_refused
from rackwright.foreign import InvalidData, excerpt, read_bounded, within

ANSWER_BYTES = 8 << 20
"""Maximum size of an answer that is no object: a page of 1,000 keys has at most 4 MiB."""
TAGS_MAX = 200_000
"""Maximum number of tags of XML in an answer; a page of 1,000 versions has 40,000."""
WAIT_SECONDS = 300
"""Time for a request and its answer, however it is spent, without that of its body."""
LOWEST_RATE = 4 << 10
"""Lowest accepted rate of a body in bytes per second; eight parts may share a bound of bandwidth."""
SINGLE_MAX = 5 << 30
"""Maximum bytes of a body. Source: Amazon S3 API, PutObject and UploadPart."""
IS_ENCRYPTED = "is_encrypted"
"""Attribute of a request whose answer is encrypted, so that no parser of XML reads it."""
_DECLARATION = re.compile(rb"""^\s*<\?xml\s[^>]*?encoding\s*=\s*["'](?!(?i:utf-8|us-ascii)["'])""")


class BoundedSession:
    """A sender of requests that reads at most `ANSWER_BYTES` of each answer which is no object.

    The body of an object is left to its reader.
    """

    def __init__(self, session: Any, wait_seconds: float = WAIT_SECONDS) -> None:
        """
        Args:
            session: The session of botocore that sends.
        """
        self._session, self._wait_seconds = session, wait_seconds

    def send(self, request: Any) -> Any:
        """Return the answer to *request*.

        Raises:
            BotoCoreError: No answer in time, or an answer beyond the bounds.
        """
        is_object = request.stream_output
        request.stream_output = True  # else botocore reads all of the answer
        size = _body_bytes(request)
        seconds = self._wait_seconds + size / LOWEST_RATE
        try:
            return within(seconds, lambda: self._answer(request, is_object))
        except TimeoutError:
            of_body = f" for a body of {size} bytes" if size else ""
            raise answer_refused(f"the answer took more than {seconds:g} s{of_body}") from None

    def close(self) -> None:
        self._session.close()

    def _answer(self, request: Any, is_object: bool) -> Any:
        answer = self._session.send(request)
        if not is_object or answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            try:
                content = read_bounded(answer.raw, ANSWER_BYTES)
                if not getattr(request, IS_ENCRYPTED, False):
                    _check_xml(content)
            except InvalidData as error:
                raise answer_refused(f"the answer of the store is refused: {error}") from None
            finally:
                answer.raw.close()
            answer.raw = _Content(content)
        else:
            answer.raw = Stream(answer.raw)
        return answer


class _Content(io.BytesIO):
    """An answer that was read."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


def _body_bytes(request: Any) -> int:
    """Return the size of the body of *request*; the largest for a body of unknown size."""
    body = request.body
    if not body:
        return 0
    if isinstance(body, bytes | bytearray | str):
        return len(body)
    headers = {str(name).lower(): value for name, value in request.headers.items()}
    for name in ("content-length", "x-amz-decoded-content-length"):
        value = headers.get(name, "")
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
        if text.isdecimal() and len(text) <= 20:
            return min(int(text), SINGLE_MAX)
    return SINGLE_MAX


def _check_xml(content: bytes) -> None:
    """Return if the XML in *content* takes little memory.

    Raises:
        InvalidData: It declares entities, which may grow without bound, or has too many elements.
    """
    if content.count(b"<") > TAGS_MAX:
        raise InvalidData(f"it has more than {TAGS_MAX} tags")
    if declaration := _DECLARATION.match(content[:1024]):
        raise InvalidData(f"it is not in UTF-8: {excerpt(declaration[0].decode('ascii', 'replace'))}")
    if b"\0" in content or b"<!" in content:
        raise InvalidData("it has declarations of a document type, which no store sends")
