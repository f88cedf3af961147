"""The memory of a long test: the least that was available counts."""

import pytest

from tests.support import peak_memory
from tests.support.expect import eventually
from tests.support.peak_memory import PeakMemory, available_bytes

TEXT = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\n"


def test_what_is_available_is_read() -> None:
    assert available_bytes(TEXT) == 20_000_000 << 10


def test_the_least_counts_and_not_the_last(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "meminfo"
    monkeypatch.setattr(peak_memory, "MEMINFO", file)
    monkeypatch.setattr(peak_memory, "SECONDS", 0.001)
    file.write_text(TEXT)
    with PeakMemory() as memory:
        other = tmp_path / "other"
        for kib in ("17000000", "19000000"):
            other.write_text(TEXT.replace("20000000", kib))
            other.replace(file)
            eventually(lambda: memory.bytes == 3_000_000 << 10, "the least is kept")
    assert str(memory) == "3.1 GB of memory at most"
