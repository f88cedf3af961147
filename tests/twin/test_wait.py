"""The wait for the machines of a twin, and its end."""

from pathlib import Path

import pytest

from rackwright.errors import HostUnreachable
from rackwright.twin import Twin
from rackwright.twin import twin as twins
from tests.support.own_clock import own_clock
from tests.twin.conftest import container, machine


@pytest.mark.parametrize(
    ("answering", "where", "problem"),
    [
        ((), "test-01, test-02, test-03", "the guests do not answer SSH after 0 s"),
        (("test-02",), "test-01, test-03", "the guests do not answer SSH after 0 s"),
        (("test-01", "test-03"), "test-02", "the guest does not answer SSH after 0 s"),
    ],
)
def test_all_machines_that_are_silent_are_named(
    answering: tuple[str, ...], where: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = Twin(tmp_path, [container(number) for number in (1, 2, 3)])
    monkeypatch.setattr(twin, "_running_children", lambda: dict.fromkeys(twin.machines))
    monkeypatch.setattr(twin, "answers_ssh", lambda host, seconds: host in answering)

    with pytest.raises(HostUnreachable) as error:
        twin.wait(lambda text: None, seconds=-0.1)
    [silent] = error.value.diagnostics
    assert (silent.where, silent.problem.replace("-0", "0"), silent.id) == (where, problem, "guest-silent")
    assert silent.help and all(str(twin.layout.console(host)) in silent.help for host in where.split(", "))


def test_a_slow_guest_gets_few_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    QEMU keeps those that were given up, and a guest that gets more than ten at once refuses logins.
    """
    slow, now = Twin(tmp_path, [container(1)]), 0.0
    waits: list[float] = []

    def answers_ssh(host: str, seconds: float) -> bool:
        nonlocal now
        now += seconds
        waits.append(seconds)
        return now > 120

    monkeypatch.setattr(slow, "answers_ssh", answers_ssh)
    monkeypatch.setattr(slow, "_running_children", lambda: dict.fromkeys(slow.machines))
    own_clock(monkeypatch, twins, monotonic=lambda: now)
    slow.wait(print)

    assert waits[:4] == [2, 2, 2, 2]
    assert len(waits) < 20


def test_a_silent_virtual_machine_is_reset_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It may hang at its start. A container has no processor of its own, one that ran before is left as it is, and one
    that writes to its console is slow alone.
    """
    twin, now = Twin(tmp_path, [machine(1), container(2), machine(3), machine(4), machine(5)]), 0.0
    resets: list[tuple[str, float]] = []
    texts: list[str] = []
    for host in twin.machines:
        twin.layout.console(host).parent.mkdir(parents=True, exist_ok=True)

    def answers_ssh(host: str, seconds: float) -> bool:
        nonlocal now
        now += 5
        if host == "test-05":
            with twin.layout.console(host).open("a") as console:
                console.write("a line\n")
        if host == "test-01" and now < 60:
            twin.layout.console(host).write_text("the first lines\n")
        return host == "test-03" or now > 900

    monkeypatch.setattr(twin, "answers_ssh", answers_ssh)
    monkeypatch.setattr(twin, "_running_children", lambda: dict.fromkeys(twin.machines))
    monkeypatch.setattr(twin, "_reset_silent", lambda host: resets.append((host, now)))
    own_clock(monkeypatch, twins, monotonic=lambda: now)
    twin.wait(texts.append, seconds=1000, just_started=["test-01", "test-02", "test-03", "test-05"])

    [(host, at)] = resets
    assert host == "test-01" and twins.HANG_SECONDS < at < twins.HANG_SECONDS + 60
    [text] = [text for text in texts if "reset" in text]
    assert text.startswith("test-01: silent for 3") and text.endswith(" s; it is reset once")
