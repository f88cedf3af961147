"""Answers of an object store: facts with unknown values, or an error of ours; each other exception is a failure."""

from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import strategies as st

from rackwright.endpoints import s3_facts
from rackwright.errors import UserError
from rackwright.tiering import archive
from rackwright.tiering.bucket import Bucket, store_errors
from tests.support import s3_answers
from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import STRANGE, mutated_bytes, of_bytes

VALUES = (
    "x", "inf", "nan", "9" * 300, "9" * 5000, "-1", "", " ", "1e999", "2026-13-45", "\u0663",
    "0001-01-01T00:00:00+23:59", "Mon, 99999999999999999999 Jan 2026 00:00:00 GMT", "<a/>",
    "<Name>c</Name>", "&#10;x/../..", "../..",
)  # fmt: skip
"""Texts that take the place of a value between two tags, or of a header."""


class Target:
    def __init__(self) -> None:
        self.case: tuple[str, str, Any, int, int] = ("", "", "", 200, 0)
        self.signed = s3_answers.client(self.answer)
        self.unsigned = s3_answers.client(self.answer, signed=False)

    def answer(self, url: str) -> s3_answers.Answer:
        name, sort, change, status, number = self.case
        kind = s3_answers.kind(url)
        body, headers = s3_answers.ANSWERS[kind].encode(), dict(s3_answers.HEADERS)
        if kind != name:
            return 200, headers, body
        if sort == "bytes":
            body = mutated_bytes(body, change)
        elif sort == "value":
            parts = body.decode().split(">")
            at = number % len(parts)
            text, tag, rest = parts[at].partition("<")
            parts[at] = f"{change}{tag}{rest}" if text or number % 3 else f"{tag}{rest}"
            body = ">".join(parts).encode()
        elif sort == "header":
            headers[[*headers][number % len(headers)]] = change
        elif sort == "error":
            body = mutated_bytes(s3_answers.ANSWERS["error"].encode(), change)
        return status, headers, body

    def check(self, case: tuple[str, str, Any, int, int]) -> None:
        self.case = case
        with suppress(BotoCoreError, ClientError):
            facts = s3_facts.read(self.signed, self.unsigned, "0" * 64)
            assert facts["s3"]["buckets"]
        bucket = Bucket("models", self.signed)
        with suppress(UserError), store_errors(bucket):
            assert isinstance(archive.list_archives(bucket), tuple)
        with suppress(UserError), store_errors(bucket):
            for key, size in archive._objects(bucket, "model-1").items():
                assert isinstance(key, str) and isinstance(size, int)
        with suppress(BotoCoreError, ClientError, UserError):
            for page in self.signed.get_paginator("list_object_versions").paginate(Bucket="models"):
                assert all(isinstance(each["Key"], str) for each in page.get("Versions", ()))


def run(count: int, number: int) -> None:
    names, numbers = st.sampled_from([*s3_answers.ANSWERS]), st.integers(0, 999)
    statuses = st.sampled_from((200, 200, 403, 404, 301))
    texts = st.sampled_from((*VALUES, *(each for each in STRANGE if isinstance(each, str) and each.isprintable())))

    def of(sort: str, changes: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.tuples(names, st.just(sort), changes, statuses, numbers)

    strategy = st.one_of(of("bytes", of_bytes), of("value", texts), of("header", texts), of("error", of_bytes))
    cases(count, number, strategy, Target().check)
