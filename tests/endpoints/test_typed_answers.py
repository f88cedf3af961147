"""Odd answers of a store: each becomes an error of botocore in one place, and ends nothing for other sources."""

import ast
import types
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, SSLError

from rackwright.audit import evidence
from rackwright.core.contract import EndpointSource
from rackwright.endpoints import s3_facts
from rackwright.endpoints.pool import Endpoints
from rackwright.endpoints.typed_answers import Stream
from rackwright.errors import EndpointUnreachable, UserError
from rackwright.facts.facts import Facts
from tests.support import s3_answers
from tests.support.sources import ROOT

ODD = {
    "a size that is a letter": ("versions", ">1</Size>", ">x</Size>"),
    "a size of 5000 digits": ("versions", ">1</Size>", f">{'9' * 5000}</Size>"),
    "an endless date": ("versions", ">2026-01-01T00:00:00Z<", ">inf<"),
    "days that are a letter": ("lifecycle", ">1</Days>", ">x</Days>"),
    "a retention that is a letter": ("object-lock", ">1</Days>", ">x</Days>"),
    "a date that is no number": ("listing", ">2026-01-01T00:00:00Z<", ">nan<"),
    "a date of 300 digits": ("listing", ">2026-01-01T00:00:00Z<", f">{'9' * 300}<"),
    "a bucket without a name": ("listing", "<Name>models</Name>", ""),
    "two names": ("listing", "<Name>models</Name>", "<Name>a</Name><Name>b</Name>"),
    "a tag without a key": ("tagging", "<Key>a</Key>", ""),
    "a version without a key": ("versions", "<Key>a</Key>", ""),
    "an algorithm of others": ("encryption", "AES256", "x"),
    "no XML": ("versions", "<ListVersionsResult", "x"),
}
HEADERS = {
    "last-modified": ("x", "inf", "9" * 400, "nan"),
    "date": ("Mon, 99999999999999999999 Jan 2026 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 +2359", "x", ""),
    "x-amz-mp-parts-count": ("x",),
    "x-amz-missing-meta": ("x",),
    "content-length": ("x", "-1", "9" * 5000),
}


def answer_with(kind: str, before: str = "", after: str = "", **headers: str) -> Any:
    def answer(url: str) -> s3_answers.Answer:
        name = s3_answers.kind(url)
        body = s3_answers.ANSWERS[name]
        assert name != kind or before in body
        return 200, {**s3_answers.HEADERS, **headers}, (body.replace(before, after) if name == kind else body).encode()

    return answer


def read(answer: Any) -> dict[str, Any]:
    return s3_facts.read(s3_answers.client(answer), s3_answers.client(answer, signed=False), "0" * 64)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_is_unknown_or_an_error_of_botocore(name: str) -> None:
    try:
        facts = read(answer_with(*ODD[name]))
    except BotoCoreError as error:
        assert "Traceback" not in str(error)
    else:
        assert [*facts["s3"]["buckets"]] == ["models"]


@pytest.mark.parametrize(("header", "value"), [(name, value) for name, values in HEADERS.items() for value in values])
def test_an_odd_header_hides_no_bucket(header: str, value: str) -> None:
    facts = read(answer_with("", **{header: value}))
    assert [*facts["s3"]["buckets"]] == ["models"]


def test_a_value_that_is_missing_is_an_error_of_botocore_wherever_it_is_read() -> None:
    client = s3_answers.client(answer_with("versions", "<Key>a</Key>"))
    (version,) = client.list_object_versions(Bucket="models")["Versions"]
    with pytest.raises(BotoCoreError, match="the answer of the store has no Key"):
        version["Key"]
    assert version.get("Key") is None and version["Size"] == 1


@pytest.mark.parametrize(
    "body", ["", "x", "<Error/>", "<Error>x</Error>", "<Error><Code><a>1</a></Code></Error>", "<a>"]
)
@pytest.mark.parametrize("status", [301, 400, 403, 404, 501])
def test_an_odd_error_has_the_documented_form(body: str, status: int) -> None:
    client = s3_answers.client(lambda url: (status, {"date": "x"}, body.encode()))
    with pytest.raises((ClientError, BotoCoreError)) as raised:
        client.get_bucket_tagging(Bucket="models")
    if isinstance(raised.value, ClientError):
        s3_facts.diagnose("s3:x", "http://x", raised.value)
        s3_facts.is_missing_feature(raised.value)
        assert all(isinstance(text, str) for text in raised.value.response["Error"].values())


def test_any_error_of_a_body_is_one_of_botocore() -> None:
    class Broken:
        def read(self, *_: Any) -> bytes:
            raise OverflowError("x")

        readinto = read

        def fileno(self) -> int:
            return 7

    stream = Stream(Broken())
    with pytest.raises(BotoCoreError, match="the body of the answer cannot be read: OverflowError: x"):
        stream.read(1)
    with pytest.raises(BotoCoreError):
        stream.readinto(bytearray(1))
    assert stream.fileno() == 7


class Hostile:
    """A client whose reading raises any error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self) -> Facts:
        raise self.error


class Good:
    def read(self) -> Facts:
        return Facts({"format": 1})


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("a"), RecursionError(), OverflowError("y"), MemoryError()])
def test_one_hostile_endpoint_ends_the_reading_of_no_other(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    cold, warm = EndpointSource("s3", "cold"), EndpointSource("s3", "warm")
    made = Endpoints(lambda source: Hostile(error) if source == cold else Good())  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(evidence, "open_endpoints", lambda stack: made)

    found = evidence.from_endpoints(types.SimpleNamespace(endpoint_sources=[cold, warm]), lambda text: None)  # type: ignore[arg-type]

    assert isinstance(found["s3:warm"], Facts)
    assert isinstance(found["s3:cold"], EndpointUnreachable)
    with pytest.raises(EndpointUnreachable, match="the answer cannot be read"):
        made.facts(cold)


def test_one_hostile_host_ends_the_reading_of_no_other() -> None:
    class Hosts:
        def facts(self, name: str, fresh: bool = False) -> Facts:
            if name == "bad":
                raise OverflowError("x")
            return Facts({"format": 1})

        def forget_facts(self, name: str) -> None:
            pass

    found = evidence.from_hosts(Hosts(), ["bad", "good"], lambda text: None)  # type: ignore[arg-type]
    assert isinstance(found["bad"], UserError) and isinstance(found["good"], Facts)
    each = dict(evidence.each_from_hosts(Hosts(), ["bad", "good"], lambda text: None))  # type: ignore[arg-type]
    assert isinstance(each["bad"], UserError) and isinstance(each["good"], Facts)


def creations(source: str) -> list[int]:
    """Return the lines of a program that make a client of botocore."""
    names = ("create_client", "client", "resource", "Session")
    if "create_client" not in source and "boto3" not in source:
        return []
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.func.attr == "create_client" or ast.unparse(node.func) in {f"boto3.{name}" for name in names})
    ]


def test_one_place_makes_clients_of_botocore() -> None:
    found = {
        str(path.relative_to(ROOT)): len(lines)
        for folder in ("rackwright", "workloads", "stacks")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := creations(path.read_text()))
    }
    assert found == {"rackwright/endpoints/s3.py": 1}
    text = (ROOT / "rackwright/endpoints/s3.py").read_text()
    assert text.index("create_client(") < text.index("type_answers(client)")
    assert creations("boto3.client('s3')") and creations("session.create_client('s3')")


@pytest.mark.parametrize(
    ("kind", "help"),
    [(SSLError, "as `ca` of the store in the fleet"), (EndpointConnectionError, "Check the address")],
)
def test_an_unknown_authority_of_a_store_has_another_help_than_a_silent_store(kind: Any, help: str) -> None:
    error = kind(endpoint_url="https://192.0.2.1", error="certificate verify failed")

    assert help in str(s3_facts.diagnose("s3:x", "https://192.0.2.1", error))
