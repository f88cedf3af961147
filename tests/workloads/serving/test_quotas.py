"""Quotas of keys: what they count, when they begin again, and what an answer says about them."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.training_runs import ROOT, environment
from workloads.errors import UserError
from workloads.serving import keys
from workloads.serving.keys import Key
from workloads.serving.quota_counts import Count, QuotaCounts, UnwritableCounts
from workloads.serving.quotas import AHEAD, DAY, Quotas


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
    assert (error.status, str(error)) == (
        429,
        "this key has used its 2 requests per minute at this server; come back in 55 s",
    )
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


APP = {"requests_per_minute": 10, "tokens_per_minute": 500}
DAY_TOKENS = 6400
DAILY = {"tokens_per_day": DAY_TOKENS}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quotas.sqlite3"


def tokens(counted: Quotas, each: Key, name: str = "tokens") -> int:
    return int(counted.headers(each)[f"x-ratelimit-remaining-{name}"])


def left_of_the_day(counted: Quotas, each: Key) -> int:
    """Return the tokens that *each* has left in the day, and use them up."""
    left = 0
    while counted.take_request(each) is None:
        counted.add_tokens(each, 1)
        left += 1
    return left


def test_a_stop_keeps_all_counts(path: Path, clock: Clock) -> None:
    app, daily = key(**APP), key("daily", **DAILY)
    with closing(Quotas(clock, path)) as before:
        assert before.take_request(app) is None
        before.add_tokens(app, 37)
        before.add_tokens(daily, 37)
    with closing(Quotas(clock, path)) as after:
        assert (after.warnings, tokens(after, app, "requests"), tokens(after, app)) == ([], 9, 463)
        assert left_of_the_day(after, daily) == DAY_TOKENS - 37


def test_counts_of_ended_windows_and_of_other_days_begin_again(path: Path, clock: Clock) -> None:
    app, daily = key(**APP), key("daily", **DAILY)
    with closing(Quotas(clock, path)) as before:
        before.take_request(app)
        before.add_tokens(app, 500)
        before.add_tokens(daily, 500)
    clock.now += 60
    with closing(Quotas(clock, path)) as after:
        assert (tokens(after, app, "requests"), tokens(after, app)) == (10, 500)
        clock.now += 60
    with closing(sqlite3.connect(path)) as file:
        assert [row[0] for row in file.execute("SELECT quota FROM counts")] == ["tokens_per_day"]
    clock.now += DAY
    with closing(Quotas(clock, path)) as later:
        assert left_of_the_day(later, daily) == DAY_TOKENS


def test_a_key_that_was_not_asked_for_keeps_its_counts(path: Path, clock: Clock) -> None:
    app = key(**APP)
    with closing(Quotas(clock, path)) as before:
        before.add_tokens(app, 100)
    Quotas(clock, path).close()
    with closing(Quotas(clock, path)) as after:
        assert tokens(after, app) == 400


@pytest.mark.parametrize("used", [0, 1, 99, 100, 101, 6000])
def test_a_crash_gives_nothing_back_and_costs_little(path: Path, clock: Clock, used: int) -> None:
    """The file is as the kernel has it when the process is killed: a copy of it, without a stop."""
    app, daily = key(**APP), key("daily", **DAILY)
    before = Quotas(clock, path)
    assert [before.take_request(each) for each in (app, daily)] == [None, None]
    for _ in range(used):
        before.add_tokens(daily, 1)
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    with closing(Quotas(clock, copy)) as after:
        assert "ended without a stop" in after.warnings[0]
        assert (tokens(after, app, "requests"), tokens(after, app)) == (0, 0), "the minute is unknown"
        clock.now += 60
        assert (tokens(after, app, "requests"), tokens(after, app)) == (10, 500)
        assert DAY_TOKENS - used - 2 * DAY_TOKENS // AHEAD <= left_of_the_day(after, daily) <= DAY_TOKENS - used
    before.close()


def test_a_killed_server_leaves_its_counts(path: Path) -> None:
    """A real process, killed between two requests."""
    code = (
        "import pathlib, sys, time; from tests.workloads.serving.test_quotas import DAILY, key; "
        "from workloads.serving.quotas import Quotas; "
        "daily, quotas = key(**DAILY), Quotas(path=pathlib.Path(sys.argv[1])); quotas.take_request(daily); "
        "quotas.add_tokens(daily, 6399); print('counted', flush=True); time.sleep(600)"
    )
    argv = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(argv, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "counted\n"
        with pytest.raises(UserError, match="another server counts in this file"):
            Quotas(path=path)
        os.kill(process.pid, signal.SIGKILL)
    with closing(Quotas(path=path)) as after:
        error = after.take_request(key(**DAILY))
        assert error is not None and error.code == "insufficient_quota"


@pytest.fixture
def small_drive(path: Path) -> Iterator[QuotaCounts]:
    """A file that takes no further page, as on a drive without space."""
    counts = QuotaCounts(path)
    [pages] = counts._file.execute("PRAGMA page_count").fetchone()
    counts._file.execute(f"PRAGMA max_page_count = {pages}")
    yield counts
    counts._file.close()


def test_without_space_a_key_is_refused_and_the_process_goes_on_counting(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, other = key(**DAILY), key("other", requests_per_minute=1)
    counted = Quotas(clock, path)
    assert counted.take_request(app) is None
    assert counted._counts
    with monkeypatch.context() as full:
        full.setattr(counted._counts, "write", lambda counts: (_ for _ in ()).throw(sqlite3.OperationalError("full")))
        counted.add_tokens(app, 101)
        for _ in range(2):
            error = counted.take_request(app)
            assert error is not None
            assert (error.status, error.headers) == (503, {"retry-after": "10"})
        assert counted.take_request(other) is None, "nothing of it is written"
    assert counted.take_request(app) is None, "as soon as there is space"
    with monkeypatch.context() as full:
        full.setattr(
            counted._counts, "_change", lambda *a, **b: (_ for _ in ()).throw(sqlite3.OperationalError("full"))
        )
        counted.close()
    with closing(Quotas(clock, path)) as after:
        assert after.warnings, "a stop that could not write is a crash"


def test_sqlite_writes_all_of_a_change_or_nothing(small_drive: QuotaCounts) -> None:
    many = [Count(f"{number:064x}", "tokens_per_day", 1, 1) for number in range(1000)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        small_drive.write(many)
    assert small_drive._file.execute("SELECT count(*) FROM counts").fetchone() == (0,)
    small_drive.write(many[:1])


def test_a_file_that_cannot_be_used_is_refused(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match="Remove the file; each key then has its whole quotas again"):
        Quotas(path=path)
    path.unlink()
    Quotas(path=path).close()
    for change, reason in {
        "PRAGMA user_version = 2": "it has the format 2",
        "PRAGMA user_version = 1; INSERT INTO counts VALUES ('a', 'tokens_per_year', 1, 1)": "an impossible count",
        "UPDATE counts SET quota = 'tokens_per_day', count = -1": "an impossible count",
        "DELETE FROM counts; DELETE FROM server": "no mark of its server",
    }.items():
        with closing(sqlite3.connect(path)) as file:
            file.executescript(change)
        with pytest.raises(UserError, match=reason):
            Quotas(path=path)
    with pytest.raises(UnwritableCounts, match="cannot be written"):
        Quotas(path=tmp_path / "missing" / "quotas.sqlite3")


def test_a_clock_that_is_set_back_begins_no_window_again(path: Path, clock: Clock) -> None:
    app = key(**DAILY)
    with closing(Quotas(clock, path)) as counted:
        counted.add_tokens(app, DAY_TOKENS)
        clock.now -= 3 * DAY
        error = counted.take_request(app)
        assert error is not None and error.headers["retry-after"] == str(4 * DAY - 5)
    with closing(Quotas(clock, path)) as after:
        assert "a day that has not begun" in after.warnings[0]
        assert after.take_request(app) is not None
        clock.now += 4 * DAY
        assert after.take_request(app) is None


def test_a_new_key_is_printed_with_its_quotas(capsys: pytest.CaptureFixture[str]) -> None:
    assert keys.main(["app", "--tokens-per-day", "1000", "--requests-per-minute", "60"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert Key.model_validate({**entry, "scopes": tuple(entry["scopes"])}).tokens_per_day == 1000
    assert (entry["requests_per_minute"], "tokens_per_minute" in entry) == (60, False)
    assert keys.main(["app", "--tokens-per-minute", "0"]) == 2
    assert "--tokens-per-minute: got 0\n  expected: a number above 0" in capsys.readouterr().err
