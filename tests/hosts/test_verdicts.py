"""Verdicts are read from the monitoring host, checked, and kept for a time in which it does not answer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rackwright.errors import StepFailed
from rackwright.hosts import verdicts
from rackwright.hosts.pool import Hosts
from rackwright.kinds.role.derived_certificates import derived_public_key
from rackwright.quarantine.program import PATH
from rackwright.stack import Stack
from tests.support.verdicts import FOREIGN_KEY, HOSTS, RECEIVER, Monitor, began, chain, ended, link, public, rack, sign

SECRET = "a secret of the tests, which is long enough"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setattr(verdicts, "derived_public_key", lambda secret, name, use: public())
    return rack(tmp_path, secrets={"monitoring_key": SECRET})


def receiver(stack: Stack) -> verdicts.Receiver:
    found = verdicts.receiver_of(stack.fleet)
    assert found
    return found


def names(stack: Stack, monitor: Monitor) -> list[str]:
    return [*verdicts.read(cast(Hosts, monitor), stack, receiver(stack)).hosts]


def look(stack: Stack, monitor: Monitor) -> verdicts.QuarantineLook:
    return verdicts.look(cast(Hosts, monitor), stack, receiver(stack))


def test_the_receiver_follows_from_its_role(tmp_path: Path) -> None:
    assert receiver(rack(tmp_path)) == verdicts.Receiver(RECEIVER, tuple(HOSTS), 50, "monitoring_key")
    assert verdicts.receiver_of(cast(Any, SimpleNamespace(hosts={}))) is None


def test_a_stack_and_one_that_uses_its_hosts_have_one_copy_and_a_twin_has_its_own(tmp_path: Path) -> None:
    def path(stack: Stack) -> str:
        return str(verdicts.copy_path(stack, receiver(stack)).relative_to(tmp_path))

    assert (
        path(rack(tmp_path))
        == path(rack(tmp_path, uses="fleet.yaml"))
        == f".rackwright/verdicts/hospital/fleet/{RECEIVER}"
    )
    assert path(rack(tmp_path, twin="lab")) == f".rackwright/twins/lab/verdicts/{RECEIVER}"


def test_the_key_is_that_of_the_role(tmp_path: Path) -> None:
    """
    Its private part signs what the public part verifies: the same text of the secret, name and use.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from rackwright.kinds.role.derived_certificates import derived_key

    private = load_pem_private_key(derived_key(f"{SECRET} quarantine", RECEIVER, "server").encode(), None)
    assert isinstance(private, Ed25519PrivateKey)
    assert public(private) == derived_public_key(f"{SECRET} quarantine", RECEIVER, "server")
    stack, line = rack(tmp_path, secrets={"monitoring_key": SECRET}), sign(link(began("gpu-01"))[0], private)

    assert names(stack, Monitor(line)) == ["gpu-01"]


def test_verdicts_that_go_on_are_read_and_kept(stack: Stack) -> None:
    lines = chain(began("gpu-01"), began("gpu-02"), ended("gpu-01"))
    monitor = Monitor(*lines[:1])
    assert names(stack, monitor) == ["gpu-01"]
    monitor.lines = lines
    assert names(stack, monitor) == ["gpu-02"]
    copy = verdicts.copy_path(stack, receiver(stack))
    assert copy.read_bytes() == b"".join(lines) and copy.stat().st_mode & 0o777 == 0o600

    monitor.is_off = True
    found = look(stack, monitor)
    assert ([*found.quarantine.hosts], found.unknown) == (["gpu-02"], f"{RECEIVER}: no answer")
    assert found.notices()["quarantine"] == f"verdicts since the last copy are unknown: {RECEIVER}: no answer"


@pytest.mark.parametrize(
    ("later", "text"),
    [
        (chain(began("gpu-01")), "verdicts that were read before are missing"),
        ([], "verdicts that were read before are missing"),
        (chain(began("gpu-02"), began("gpu-01")), "in the place of those that were read before"),
        ([*chain(began("gpu-01"), began("gpu-02"))[:1], b"{}\n"], "line 2: the line has not the form"),
        (
            [sign(each, FOREIGN_KEY) for each in link(began("gpu-01"), ended("gpu-01"))],
            "line 1: the key of the receiver",
        ),
    ],
)
def test_verdicts_that_do_not_go_on_are_refused_and_the_last_copy_counts(
    stack: Stack, later: list[bytes], text: str
) -> None:
    monitor = Monitor(*chain(began("gpu-01"), ended("gpu-01"), began("gpu-02")))
    names(stack, monitor)
    monitor.lines = later
    with pytest.raises(StepFailed) as caught:
        names(stack, monitor)
    assert text in caught.value.diagnostic.problem
    assert str(verdicts.copy_path(stack, receiver(stack))) in (caught.value.diagnostic.help or "")
    found = look(stack, monitor)

    assert [*found.quarantine.hosts] == ["gpu-02"] and text in found.unknown


def test_a_host_without_the_program_has_no_verdicts_yet(stack: Stack) -> None:
    monitor = Monitor()
    monitor.status = verdicts.ABSENT
    assert look(stack, monitor) == verdicts.QuarantineLook(verdicts.quarantine((), HOSTS, 50))
    monitor.status = 1
    assert look(stack, monitor).unknown == f"{RECEIVER}: verdicts: it failed"


def test_a_stack_without_the_secret_reads_verdicts_by_their_order(tmp_path: Path) -> None:
    stack = rack(tmp_path, uses="fleet.yaml")
    monitor = Monitor(*chain(began("gpu-01")))
    assert names(stack, monitor) == ["gpu-01"]
    monitor.lines = monitor.lines * 2
    assert "line 2" in look(stack, monitor).unknown


def test_the_end_is_asked_for_with_its_reason_and_read_again(stack: Stack) -> None:
    monitor = Monitor(*chain(began("gpu-01")))
    found = verdicts.end(cast(Hosts, monitor), stack, receiver(stack), "gpu-01", "a new GPU")

    assert monitor.calls == [((PATH, "end", "gpu-01"), b"a new GPU"), (verdicts.SHOW, b"")] and "gpu-01" in found.hosts
    monitor.status = 1
    with pytest.raises(StepFailed, match="it failed"):
        verdicts.end(cast(Hosts, monitor), stack, receiver(stack), "gpu-01", "a new GPU")


def test_the_command_of_the_host_tells_a_missing_program_from_one_that_fails(tmp_path: Path) -> None:
    import subprocess

    program = tmp_path / "program"
    command = verdicts.SHOW[2].replace(PATH, str(program))
    assert subprocess.run(["/bin/sh", "-c", command]).returncode == verdicts.ABSENT
    program.write_text("#!/bin/sh\necho $1; exit 3\n")
    program.chmod(0o755)
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True)

    assert (done.returncode, done.stdout) == (3, b"show\n")
