"""What erases on the host, on files in the place of drives: what it leaves, what it finds, what it refuses."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rackwright.erase import run
from rackwright.erase.onhost import eraser
from rackwright.facts import probe
from rackwright.facts.content import describe
from rackwright.facts.probe import block, observe

SIZE = 12 << 20
PATTERN = os.urandom(4096)
NVME = """\
#!/bin/sh
echo "$@" >> {log}
case $1 in
id-ctrl) echo '{identify}' ;;
list-ns) printf '[   0]:0x1\\n[   1]:0x2\\n' ;;
version) echo 'nvme version 2.4 (git 2.4)' ;;
format) head -c {size} /dev/zero > $2; {then} ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of three drives full of PATTERN: an NVMe one, and two that take discards."""
    for name, serial in (("nvme0n1", "E-NVME0"), ("sda", "E-SAS0"), ("sdb", "E-SAS1")):
        folder = tmp_path / "sys/class/block" / name
        for path in (tmp_path / "sys/block" / name, folder / "device", folder / "queue", tmp_path / "dev"):
            path.mkdir(parents=True, exist_ok=True)
        (folder / "size").write_text(f"{SIZE // 512}\n")
        (folder / "dev").write_text("0:0\n")  # as a file has it
        (folder / "stat").write_text("8 0 64 0 0 0 512 0 0 0 0\n")
        (folder / "queue/discard_max_bytes").write_text("1073741824\n")
        (folder / ("device/serial" if name.startswith("nvme") else "serial")).write_text(f"{serial}\n")
        (tmp_path / "dev" / name).write_bytes(PATTERN * (SIZE // 4096))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("5f3c1a2b\n")
    (tmp_path / "proc/self/mountinfo").touch()
    (tmp_path / "proc/swaps").write_text("Filename Type Size Used Priority\n")
    monkeypatch.setattr(eraser, "ROOT", str(tmp_path))
    monkeypatch.setattr(eraser, "flush", lambda device: None)  # what only a block device knows
    monkeypatch.setattr(eraser, "discard_range", punch)
    try:
        os.close(os.open(tmp_path / "dev/sda", os.O_RDWR | os.O_DIRECT))
    except OSError:
        monkeypatch.setattr(os, "O_DIRECT", 0)  # of a filesystem in memory
    (tmp_path / "contents").write_text(json.dumps(contents(tmp_path)))
    return tmp_path


def contents(root: Path) -> dict[str, str]:
    """Return what is on each drive, in the words of a consent."""
    machine = block.BlockDevices(str(root))
    return {block.serial(machine, name): describe(block.drive(machine, name)) for name in machine.drives}


def punch(device: int, at: int, length: int) -> None:
    put(device, at, bytes(length))


def put(device: int, at: int, content: bytes) -> None:
    """Write what needs no alignment to an open drive."""
    with Path(f"/proc/self/fd/{device}").open("r+b") as file:
        os.pwrite(file.fileno(), content, at)


def nvme(root: Path, monkeypatch: pytest.MonkeyPatch, oacs: int = 0b1010, fna: int = 0, then: str = "true") -> Path:
    """Let nvme-cli be a script, and return where it notes what it was asked."""
    program, log = root / "bin/nvme", root / "asked"
    program.parent.mkdir()
    identify = json.dumps({"oacs": oacs, "fna": fna})
    program.write_text(NVME.format(log=log, identify=identify, size=SIZE, then=then))
    program.chmod(0o755)
    monkeypatch.setitem(observe.ENVIRONMENT, "PATH", f"{program.parent}:{observe.ENVIRONMENT['PATH']}")
    return log


def erase(root: Path, method: str, *serials: str) -> dict[str, Any]:
    """Return what is reported of each drive."""
    report = root / "erased.json"
    contents = json.loads((root / "contents").read_text())
    job = {"do": "erase", "id": "1", "serials": serials, "method": method, "report": str(report)}
    eraser.main({**job, "contents": {serial: contents.get(serial, "") for serial in serials}})
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    document: dict[str, Any] = json.loads(report.read_text())["drives"]
    return document


def is_blank(root: Path, name: str) -> bool:
    return (root / "dev" / name).read_bytes() == bytes(SIZE)


def is_whole(root: Path, name: str) -> bool:
    return (root / "dev" / name).read_bytes() == PATTERN * (SIZE // 4096)


@pytest.mark.parametrize("method", ["overwrite", "discard"])
def test_a_drive_is_erased_and_read_back(machine, method):
    [report] = erase(machine, method, "E-SAS0").values()

    verification = report["verification"]
    assert is_blank(machine, "sda")
    assert is_whole(machine, "sdb")
    assert is_whole(machine, "nvme0n1")
    assert report["size_bytes"] == verification["bytes_read"] == SIZE
    assert (verification["blocks_with_content"], verification["first_content_at"]) == (0, None)
    assert report["started_at"] <= report["ended_at"] <= verification["ended_at"]


def test_an_nvme_drive_is_formatted_by_its_controller(machine, monkeypatch):
    asked = nvme(machine, monkeypatch, fna=0b100)

    [report] = erase(machine, "format", "E-NVME0").values()
    assert is_blank(machine, "nvme0n1")
    assert report["command"] == f"nvme format {machine}/dev/nvme0n1 --ses=1 --force"
    assert report["tool"] == "nvme version 2.4 (git 2.4)"

    erase(machine, "crypto-erase", "E-NVME0")
    assert f"format {machine}/dev/nvme0n1 --ses=2 --force" in asked.read_text().splitlines()


@pytest.mark.parametrize(("expected", "failed"), [("Success formatting namespace:1", False), ("NVMe status", True)])
def test_an_old_tool_that_fails_after_its_work_has_done_it(machine, monkeypatch, expected, failed):
    nvme(machine, monkeypatch, then=f"echo {expected}; exit 1")

    [report] = erase(machine, "format", "E-NVME0").values()

    assert ("failed" in report) is failed
    assert not failed or report["failed"].endswith(f"ended with 1: {expected}")


@pytest.mark.parametrize(
    ("method", "oacs", "fna"),
    [("format", 0b1000, 0), ("crypto-erase", 0b10, 0), ("format", 0b1010, 0b1), ("format", 0b10, 0b10)],
)
def test_what_a_controller_cannot_do_to_one_namespace_alone_is_not_begun(machine, monkeypatch, method, oacs, fna):
    asked = nvme(machine, monkeypatch, oacs, fna)

    [report] = erase(machine, method, "E-NVME0").values()

    assert report["failed"] == f"the controller cannot do {method} for this namespace alone; nothing was written"
    assert "\nformat " not in asked.read_text()
    assert is_whole(machine, "nvme0n1")


def test_namespaces_of_others_are_counted_where_a_format_takes_all(machine, monkeypatch):
    asked = nvme(machine, monkeypatch, fna=0b1)

    assert eraser.controller_abilities("/dev/nvme0n1") == {
        "can_format": True,
        "can_crypto_erase": False,
        "namespaces_erased": 2,
    }
    assert asked.read_text().splitlines()[-1] == "list-ns --all /dev/nvme0n1"


def test_a_drive_that_ignores_discards_is_found_out(machine, monkeypatch):
    monkeypatch.setattr(eraser, "discard_range", lambda device, at, length: None)

    [report] = erase(machine, "discard", "E-SAS0").values()

    found = report["verification"]
    assert (found["blocks_with_content"], found["first_content_at"]) == (SIZE // 4096, 0)
    assert found["bytes_read"] == SIZE


@pytest.mark.parametrize("places", [[0], [SIZE - 1], [4095, 4096], [5 << 20, (5 << 20) + 1, SIZE - 4096]], ids=str)
def test_one_byte_that_is_left_is_found(machine, monkeypatch, places):
    """
    Two in one block count once.
    """

    def forgetful(device: int, at: int, length: int) -> None:
        punch(device, at, length)
        for place in places:
            put(device, place, b"x")

    monkeypatch.setattr(eraser, "discard_range", forgetful)

    [report] = erase(machine, "discard", "E-SAS0").values()

    blocks = sorted({place // 4096 for place in places})
    found = report["verification"]
    assert (found["blocks_with_content"], found["first_content_at"]) == (len(blocks), blocks[0] * 4096)


def test_a_drive_without_discards_is_not_touched(machine):
    (machine / "sys/class/block/sda/queue/discard_max_bytes").write_text("0\n")

    [report] = erase(machine, "discard", "E-SAS0").values()

    assert report["failed"] == "the drive does not support discards; nothing was written"
    assert is_whole(machine, "sda")


def test_a_name_that_has_become_another_drives_is_not_written(machine):
    """
    Between the look at serials and the work on what was opened.
    """
    (machine / "sys/class/block/sda/dev").write_text("8:0\n")

    [report] = erase(machine, "overwrite", "E-SAS0").values()

    assert report["failed"] == "sda is not drive E-SAS0 any more; nothing was written"
    assert is_whole(machine, "sda")


def test_a_serial_that_changes_while_it_is_opened_is_not_written(machine, monkeypatch):
    serials = iter(["E-NVME0", "E-SAS0", "E-SAS1", "E-OTHER"])
    monkeypatch.setattr(eraser.block, "serial", lambda machine, name: next(serials))

    [report] = erase(machine, "overwrite", "E-SAS0").values()

    assert report["failed"] == "sda is not drive E-SAS0 any more; nothing was written"
    assert is_whole(machine, "sda")


def test_a_content_that_changes_after_the_plan_is_not_erased(machine):
    with (machine / "dev/sda").open("r+b") as file:
        file.write(b"the only copy")

    report = erase(machine, "overwrite", "E-SAS0", "E-SAS1")

    assert "drive E-SAS0 holds " in report["E-SAS0"]["failed"]
    assert report["E-SAS0"]["failed"].endswith("; nothing was written")
    assert (machine / "dev/sda").read_bytes().startswith(b"the only copy")
    assert is_blank(machine, "sdb"), "the other one is erased all the same"


def test_drives_with_one_serial_or_none_are_not_written(machine):
    (machine / "sys/class/block/sdb/serial").write_text("E-SAS0\n")

    report = erase(machine, "overwrite", "E-SAS0", "E-SAS9")

    assert report == {
        "E-SAS0": {"failed": "more than one drive E-SAS0 here; nothing was written"},
        "E-SAS9": {"failed": "no drive E-SAS9 here; nothing was written"},
    }
    assert is_whole(machine, "sda")
    assert is_whole(machine, "sdb")


def test_a_drive_in_use_is_not_written(machine, monkeypatch):
    real = os.open

    def busy(path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_EXCL and str(path).endswith("sda"):
            raise OSError(16, os.strerror(16), path)
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", busy)

    report = erase(machine, "overwrite", "E-SAS0", "E-SAS1")

    assert report["E-SAS0"]["failed"] == "drive E-SAS0 is in use; nothing was written"
    assert is_whole(machine, "sda")
    assert is_blank(machine, "sdb"), "the other one is erased all the same"
    assert eraser.is_in_use(f"{machine}/dev/sda")
    assert not eraser.is_in_use(f"{machine}/dev/sdb")


def test_a_drive_that_cannot_be_written_or_read_says_where(machine, monkeypatch):
    def failing(real: Any) -> Any:
        def fail(device: int, data: Any, offset: int) -> int:
            if offset >= eraser.CHUNK_BYTES:
                raise OSError(5, os.strerror(5))
            done: int = real(device, data, offset)
            return done

        return fail

    monkeypatch.setattr(os, "pwrite", failing(os.pwrite))
    [report] = erase(machine, "overwrite", "E-SAS0").values()
    assert report["failed"] == f"the drive cannot be written at byte {4 << 20}: Input/output error"

    monkeypatch.setattr(os, "preadv", failing(os.preadv))
    monkeypatch.setattr(eraser, "discard_range", lambda device, at, length: None)
    [report] = erase(machine, "discard", "E-SAS1").values()
    assert report["failed"] == f"the drive cannot be read back at byte {4 << 20}: Input/output error"


def test_a_drive_that_is_shorter_than_it_says_is_not_taken_for_erased(machine, monkeypatch):
    read = eraser.read_back
    monkeypatch.setattr(eraser, "read_back", lambda device, size, account: read(device, size + 4096, account))

    [report] = erase(machine, "overwrite", "E-SAS0").values()

    assert report["failed"] == f"the drive ends at byte {SIZE}; its size is {SIZE + 4096}"


def test_what_an_earlier_run_reported_is_gone_before_anything_is_done(machine, monkeypatch):
    report = machine / "erased.json"
    report.write_text("old")
    seen = []
    monkeypatch.setattr(eraser, "erase_drive", lambda *arguments: seen.append(report.exists()))

    erase(machine, "overwrite", "E-SAS0")

    assert seen == [False]


def test_what_drives_can_do_is_reported(machine, monkeypatch, capsys):
    nvme(machine, monkeypatch, fna=0b100)
    (machine / "sys/class/block/sda/queue/discard_max_bytes").write_text("0\n")

    eraser.main({"do": "look", "serials": ["E-NVME0", "E-SAS0"]})

    others = {"namespaces_erased": 1, "in_use": False}
    assert json.loads(capsys.readouterr().out) == {
        "E-NVME0": {"can_format": True, "can_crypto_erase": True, "discard_max_bytes": 1 << 30, **others},
        "E-SAS0": {"can_format": False, "can_crypto_erase": False, "discard_max_bytes": 0, **others},
    }


def test_without_nvme_cli_it_is_not_known_what_a_controller_can_do(machine, monkeypatch, capsys):
    monkeypatch.setattr(eraser, "run_tool", lambda *argv: observe.run_tool(f"no-such-{argv[0]}", *argv[1:]))

    eraser.main({"do": "look", "serials": ["E-NVME0"]})

    printed = json.loads(capsys.readouterr().out)["E-NVME0"]
    assert printed["can_format"] == printed["namespaces_erased"] == {"unknown": "no-such-nvme is not installed"}
    assert printed["discard_max_bytes"] == 1 << 30


def test_progress_has_a_rate_and_a_time(machine, monkeypatch, capsys):
    monkeypatch.setattr(eraser, "PROGRESS_SECONDS", 0)

    erase(machine, "overwrite", "E-SAS0", "E-SAS1")

    lines = capsys.readouterr().out.splitlines()
    assert {"E-SAS0: overwrite", "E-SAS1: overwrite"} <= {*lines}
    assert any(line.startswith("reading back: ") for line in lines)
    assert eraser.progress("overwrite", 1_000_000_000, 4_000_000_000, 500_000) == (
        "overwrite: 25.0 %, 0 MB/s, 1 h 41 min left"
    )
    assert eraser.progress("discard", 0, 1, 0) == "discard: 0.0 %, 0 MB/s"


def test_it_runs_as_it_is_sent():
    """
    With the modules of the probe that it needs, and no others.
    """
    argv = [sys.executable, *probe.command()[1:]]
    job = run._job_json(do="look", serials=["NO-SUCH-DRIVE"])

    done = subprocess.run(argv, input=job, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "no drive NO-SUCH-DRIVE here" in json.loads(done.stdout)["NO-SUCH-DRIVE"]["unknown"]
