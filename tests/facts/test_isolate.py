"""Parts of the probe in a process of their own: one that hangs, crashes or takes too much is unknown, and no other."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rackwright.facts.probe import isolate
from rackwright.facts.probe.observe import ReadError


def refuse() -> None:
    raise ReadError("a reason")


def test_what_is_returned_comes_back() -> None:
    assert isolate.isolate("it", lambda a, b: {"sum": a + b}, 1, 2) == {"sum": 3}


def test_a_reason_comes_back_as_it_is() -> None:
    assert isolate.isolate("it", refuse) == {"unknown": "a reason"}


def test_one_that_hangs_takes_no_other_along() -> None:
    found = isolate.isolate_all({"slow": lambda: time.sleep(600), "fast": lambda: 1}, seconds=0.5)

    assert found == {"slow": {"unknown": "slow: no answer within 0.5 s"}, "fast": 1}


def test_what_a_hanging_one_has_started_ends_with_it(tmp_path: Path) -> None:
    def start() -> None:
        child = subprocess.Popen(("sleep", "600"))
        (tmp_path / "pid").write_text(str(child.pid))
        child.wait()

    isolate.isolate("it", start, seconds=1)

    status = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    with suppress(FileNotFoundError, ProcessLookupError):  # it is gone, perhaps between the open and the read
        while status.read_text().split()[2] != "Z":
            pass


def test_one_that_crashes_is_named_with_its_signal() -> None:
    assert isolate.isolate("it", lambda: os.kill(os.getpid(), signal.SIGUSR1)) == {
        "unknown": "it: its process ended with signal 10"
    }


def test_memory_and_answer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isolate.isolate("it", lambda: len(bytearray(1 << 30))) == {"unknown": "MemoryError: "}
    monkeypatch.setattr(isolate, "ANSWER_BYTES", 1 << 20)
    assert isolate.isolate("it", lambda: "x" * (2 << 20)) == {"unknown": "it: an answer of more than 1 MiB"}


def test_no_descriptor_and_no_process_stays() -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    isolate.isolate_all({"slow": lambda: time.sleep(600), "fast": lambda: 1, "crash": refuse}, seconds=0.2)

    assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another account")
def test_an_owner_can_be_become_and_root_not_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    own = tmp_path / "own"
    own.mkdir()
    os.chown(own, 65534, 65534)

    def become() -> list[object]:
        isolate.become_owner(str(own))
        try:
            os.setuid(0)
        except PermissionError:
            return [os.getresuid(), os.getresgid(), os.getgroups()]
        return []

    assert isolate.isolate("it", become) == [[65534] * 3, [65534] * 3, []]


def test_results_may_be_asked_for_twice() -> None:
    """The second call closed pipes that were closed, and each probe of a host with an environment ended."""
    parts = isolate.Isolation({"one": lambda: 1, "two": lambda: 2})
    assert parts.results() == parts.results() == {"one": 1, "two": 2}
