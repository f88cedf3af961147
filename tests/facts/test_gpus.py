"""GPUs on a host without a library that reports them; tests/twin has hosts with one."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import gpus
from rackwright.facts.probe.observe import ReadError, attempt
from tests.support import recorded_facts
from tests.support.own_clock import own_clock


def test_without_the_library_gpus_are_unknown_and_not_none(monkeypatch):
    monkeypatch.setattr(gpus, "LIBRARY", "libnvidia-ml.so.none")

    with pytest.raises(ReadError, match=r"libnvidia-ml\.so\.none: cannot open shared object file"):
        gpus.read_nvml()


def test_a_driver_that_never_answers_is_abandoned(monkeypatch):
    monkeypatch.setattr(gpus, "NVML_SECONDS", 0.1)
    monkeypatch.setattr(gpus, "observe", signal.pause)

    with pytest.raises(ReadError, match=r"NVML: no answer within 0\.1 s"):
        gpus.read_nvml()


def test_a_library_that_crashes_takes_nothing_along(monkeypatch):
    monkeypatch.setattr(gpus, "observe", lambda: os.kill(os.getpid(), signal.SIGUSR1))

    with pytest.raises(ReadError, match="NVML: its process ended with signal 10"):
        gpus.read_nvml()


def test_what_is_asked_holds_none_of_the_probe_s_streams(monkeypatch):
    """
    A process that cannot be killed would otherwise keep the connection open for ever.
    """
    monkeypatch.setattr(
        gpus, "observe", lambda: [str(Path(f"/proc/self/fd/{stream}").readlink()) for stream in (0, 1, 2)]
    )

    assert gpus.read_nvml() == ["/dev/null"] * 3


def test_what_is_asked_can_have_no_module_loaded_and_no_device_made(monkeypatch):
    """
    The library starts a helper of its own for both, and this is a look.
    """
    monkeypatch.setattr(gpus, "observe", lambda: Path("/proc/self/status").read_text().splitlines())
    status = dict(line.split(":\t", 1) for line in gpus.read_nvml())

    assert status["NoNewPrivs"] == "1"
    if os.getuid() == 0:
        assert [int(status["CapBnd"], 16) >> capability & 1 for capability in (16, 27)] == [0, 0]


LOG = """\
6,1,5,-;Linux version 6.1
 SUBSYSTEM=none
3,812,61234567,-;NVRM: Xid (PCI:0000:3B:00): 79, pid=1234, GPU has fallen off the bus.
 DEVICE=+pci:0000:3b:00.0
4,813,62000000,-;NVRM: GPU at PCI:0000:3b:00: GPU-6bb7262d
3,814,63000000,c,caller=T1;NVRM: Xid (0000:5e:00): 31, Ch 00000010
6,815,64000000,-;somebody said NVRM: Xid (PCI:0000:3b:00): 13, and meant it
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    return tmp_path / "dev/kmsg"


def test_errors_are_those_that_the_driver_wrote_to_the_kernel_s_log(log, tmp_path, monkeypatch):
    log.write_text(LOG)
    own_clock(monkeypatch, gpus, time=lambda: 1_700_000_100.0)
    own_clock(monkeypatch, gpus, monotonic=lambda: 100.0)
    text = "pid=1234, GPU has fallen off the bus."

    assert gpus.read_xids(str(tmp_path)) == [
        {"pci": "0000:3b:00", "code": 79, "text": text, "at": 1_700_000_061.234567},
        {"pci": "0000:5e:00", "code": 31, "text": "Ch 00000010", "at": 1_700_000_063.0},
    ]


def test_only_the_newest_errors_are_reported(log, tmp_path):
    log.write_text("".join(f"3,{n},{n},-;NVRM: Xid (PCI:0000:3b:00): {n}, again\n" for n in range(100)))

    assert [xid["code"] for xid in gpus.read_xids(str(tmp_path))] == [*range(100 - gpus.XIDS, 100)]


def test_a_log_that_has_no_more_to_say_is_not_waited_for(log, tmp_path):
    os.mkfifo(log)
    writer = os.open(log, os.O_RDWR)
    os.write(writer, LOG.encode())

    assert [xid["code"] for xid in gpus.read_xids(str(tmp_path))] == [79, 31]
    os.close(writer)


def test_records_that_are_overwritten_during_the_read_are_skipped(log, tmp_path, monkeypatch):
    answers: list[Any] = [LOG.encode(), BrokenPipeError(), b"3,1,1,-;NVRM: Xid (PCI:0000:3b:00): 48, DBE\n", b""]
    log.touch()

    def read(file: int, size: int) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bytes(answer)

    monkeypatch.setattr(os, "read", read)

    assert [xid["code"] for xid in gpus.read_xids(str(tmp_path))] == [79, 31, 48]


def test_a_log_that_cannot_be_read_is_unknown(tmp_path):
    assert attempt(gpus.read_xids, str(tmp_path)) == {"unknown": f"{tmp_path}/dev/kmsg: No such file or directory"}


def test_what_a_board_does_not_have_is_none_and_what_it_has_is_typed():
    divided, shared = Facts(recorded_facts.gpus()).gpus

    assert [(part.profile, part.start, part.size) for part in divided.mig_instances] == [
        ("1g.10gb", 0, 1),
        ("3g.40gb", 4, 4),
    ]
    assert (divided.mig, divided.utilisation_percent) == (True, None)
    assert (shared.mig, shared.mig_instances, shared.power_limit_watts) == (None, (), 70.0)
    assert [(who.pid, who.name, who.memory_bytes) for who in shared.processes] == [(4242, "python3", 1 << 30)]


def test_the_gpus_of_runs_and_servers_are_read_as_they_were_noted(tmp_path):
    assert gpus.assignments(str(tmp_path)) == {}
    folder = tmp_path / "etc/rackwright/gpus"
    folder.mkdir(parents=True)
    (folder / "server-talk.json").write_text('{"fleet": "lab", "gpus": ["0"], "uuids": []}')
    (folder / "run-digits.json").write_text("[]")
    found = gpus.assignments(str(tmp_path))
    assert found["server-talk"] == {"fleet": "lab", "gpus": ["0"], "uuids": []}
    assert found["run-digits"] == {"unknown": "not a JSON object"}
