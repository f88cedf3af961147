"""The wait for the machines of a twin, and its end."""

from pathlib import Path

import pytest

from rackwright.errors import HostUnreachable
from rackwright.twin import Twin
from tests.twin.conftest import container


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
    monkeypatch.setattr(twin, "answers_ssh", lambda host: host in answering)

    with pytest.raises(HostUnreachable) as error:
        twin.wait(lambda text: None, seconds=-0.1)
    [silent] = error.value.diagnostics
    assert (silent.where, silent.problem.replace("-0", "0"), silent.id) == (where, problem, "guest-silent")
    assert silent.help and all(str(twin.layout.console(host)) in silent.help for host in where.split(", "))
