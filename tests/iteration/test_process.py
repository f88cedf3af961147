"""A process of the workloads: what it says is handed on, and an interruption lets it save."""

import sys
from pathlib import Path

import pytest

from rackwright.iteration import process


def module(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (directory / "pretended_workload.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(directory))


def run(say: object) -> tuple[int, str]:
    return process.run(Path(sys.executable), ["pretended_workload", "an argument"], say)  # type: ignore[arg-type]


def test_all_lines_are_handed_on_and_the_last_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, monkeypatch, "import sys; print(*sys.argv[1:]); print('what', file=sys.stderr); sys.exit(3)")
    messages: list[str] = []

    assert run(messages.append) == (3, "what")
    assert messages == ["an argument", "what"]


def test_an_interruption_waits_until_it_has_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import signal, sys\n"
        "def stop(*_): print('saved'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('begun')\n"
        "signal.pause()\n"
    )
    module(tmp_path, monkeypatch, text)
    messages: list[str] = []

    def say(line: str) -> None:
        messages.append(line)
        if line == "begun":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(say)
    assert (messages[0], messages[-1]) == ("begun", "saved")


def test_a_second_interruption_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('begun')\nsignal.pause()\n"
    module(tmp_path, monkeypatch, text)

    def say(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(say)
