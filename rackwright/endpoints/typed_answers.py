"""The one place where an odd answer of a store becomes an error of botocore, which every caller handles.

The parsers of botocore raise other exceptions for some answers: ValueError for a number, RuntimeError for a date,
OverflowError. An answer may also lack a value that S3 requires.
"""

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from rackwright.errors import one_line
from rackwright.foreign import excerpt

TEXT_LONGEST = 300
"""Maximum characters of a code or a message of a store."""


def type_answers(client: Any) -> None:
    """Make every call of *client* return an answer, or raise BotoCoreError or ClientError.

    The answer's mappings raise BotoCoreError for a value that is missing. The response of a ClientError has texts and a
    status as botocore documents them.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    call = client._make_api_call  # each method of a client calls it, and each paginator calls a method

    def make_api_call(operation: str, parameters: Mapping[str, Any]) -> Any:
        try:
            return _type_value(call(operation, parameters))
        except ClientError as error:
            error.response = _type_response(error.response)
            raise
        except BotoCoreError:
            raise
        except Exception as error:  # parsers of foreign data may raise any
            raise answer_refused(f"the answer to {operation} cannot be read: {_describe(error)}") from error

    client._make_api_call = make_api_call


class Stream:
    """The body of an answer, whose errors are those of botocore.

    botocore turns two errors of urllib3 into its own, and leaves others, such as that of a broken record of TLS.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, *arguments: Any, **options: Any) -> bytes:
        return self._read(self._stream.read, *arguments, **options)  # type: ignore[no-any-return]

    def readinto(self, buffer: Any) -> int:
        return self._read(self._stream.readinto, buffer)  # type: ignore[no-any-return]

    def _read(self, read: Any, *arguments: Any, **options: Any) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            return read(*arguments, **options)
        except BotoCoreError:
            raise
        except Exception as error:  # a hostile store may cause any
            raise answer_refused(f"the body of the answer cannot be read: {_describe(error)}") from error


def answer_refused(reason: str) -> Exception:
    """Return an error of botocore, which is not sent again."""
    from botocore.exceptions import BotoCoreError

    class AnswerRefused(BotoCoreError):  # type: ignore[misc]
        fmt = "{reason}"

    return AnswerRefused(reason=reason)


class _Answer(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        raise answer_refused(f"the answer of the store has no {key}")


def _type_value(value: Any) -> Any:
    """Return plain data whose mappings raise BotoCoreError for a missing key."""
    if isinstance(value, dict):
        return _Answer({key: _type_value(each) for key, each in value.items()})
    if isinstance(value, list):
        return [_type_value(each) for each in value]
    if isinstance(value, Element):  # botocore puts both into the place of a text
        raise answer_refused("a value of the answer is there twice")
    return value


def _type_response(response: Any) -> dict[str, Any]:
    """Return the response of a ClientError with a status, headers, a code and a message of the documented types."""
    whole = response if isinstance(response, dict) else {}
    metadata, error = _mapping(whole.get("ResponseMetadata")), _mapping(whole.get("Error"))
    status = metadata.get("HTTPStatusCode")
    headers = {str(name): str(value) for name, value in _mapping(metadata.get("HTTPHeaders")).items()}
    typed = {**metadata, "HTTPStatusCode": status if type(status) is int else 0, "HTTPHeaders": headers}
    texts = {str(name): one_line(str(value)[:TEXT_LONGEST]) for name, value in error.items()}
    return {**whole, "ResponseMetadata": typed, "Error": texts}


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {excerpt(error)}"
