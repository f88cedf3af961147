"""Quotas of keys: what they count, when they begin again, and what an answer says about them."""

import json

import pytest

from workloads.serving import keys
from workloads.serving.keys import Key
from workloads.serving.quotas import DAY, Quotas


class Clock:
    """A clock that a test sets, in seconds since 1970."""

    now = 10 * DAY + 5.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quotas(clock: Clock) -> Quotas:
    return Quotas(clock)


def key(name: str = "app", **limits: int) -> Key:
    return Key(name=name, sha256=name.encode().hex().rjust(64, "0"), scopes=("infer",), **limits)


def test_requests_are_counted_by_the_minute(quotas: Quotas, clock: Clock) -> None:
    app = key(requests_per_minute=2)
    assert [quotas.take_request(app) for _ in range(2)] == [None, None]
    error = quotas.take_request(app)
    assert error is not None
    assert (error.status, str(error)) == (429, "this key has used its 2 requests per minute; come back in 55 s")
    assert error.headers == {"retry-after": "55"}
    clock.now += 55
    assert quotas.take_request(app) is None


def test_tokens_are_paid_at_the_end_and_a_debt_ends_with_its_window(quotas: Quotas, clock: Clock) -> None:
    app = key(tokens_per_minute=10)
    assert [quotas.take_request(app) for _ in range(3)] == [None] * 3, "three at once"
    for _ in range(3):
        quotas.add_tokens(app, 8)
    assert quotas.take_request(app) is not None
    clock.now += 60
    assert quotas.take_request(app) is None
    assert quotas.headers(app)["x-ratelimit-remaining-tokens"] == "10"


def test_a_day_ends_at_midnight_in_utc_and_clients_do_not_repeat_before(quotas: Quotas, clock: Clock) -> None:
    app = key(tokens_per_day=5)
    quotas.add_tokens(app, 5)
    error = quotas.take_request(app)
    assert error is not None
    assert (error.code, error.headers) == ("insufficient_quota", {"retry-after": "86395", "x-should-retry": "false"})
    clock.now = 11 * DAY
    assert quotas.take_request(app) is None


def test_a_refused_request_is_not_counted(quotas: Quotas, clock: Clock) -> None:
    app = key(requests_per_minute=1, tokens_per_day=5)
    quotas.add_tokens(app, 5)
    for _ in range(3):
        assert quotas.take_request(app) is not None
    assert quotas.headers(app)["x-ratelimit-remaining-requests"] == "1"


def test_keys_do_not_share_their_quotas(quotas: Quotas) -> None:
    assert quotas.take_request(key("a", requests_per_minute=1)) is None
    assert quotas.take_request(key("b", requests_per_minute=1)) is None
    assert quotas.take_request(key("a", requests_per_minute=1)) is not None


def test_answers_have_the_headers_of_the_quotas_per_minute_alone(quotas: Quotas) -> None:
    app = key(requests_per_minute=3, tokens_per_minute=100, tokens_per_day=1000)
    quotas.take_request(app)
    quotas.add_tokens(app, 101)
    assert quotas.headers(app) == {
        "x-ratelimit-limit-requests": "3", "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "54.500s", "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "54.500s",
    }  # fmt: skip
    assert quotas.headers(key("other")) == {}


def test_a_new_key_is_printed_with_its_quotas(capsys: pytest.CaptureFixture[str]) -> None:
    assert keys.main(["app", "--tokens-per-day", "1000", "--requests-per-minute", "60"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert Key.model_validate({**entry, "scopes": tuple(entry["scopes"])}).tokens_per_day == 1000
    assert (entry["requests_per_minute"], "tokens_per_minute" in entry) == (60, False)
    assert keys.main(["app", "--tokens-per-minute", "0"]) == 2
    assert "--tokens-per-minute: got 0\n  expected: a number above 0" in capsys.readouterr().err
