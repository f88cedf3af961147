"""What is in memory only, and what is not."""

from pathlib import Path

from rackwright.apply.memory import in_memory


def test_shared_memory_is_and_what_holds_this_file_or_the_kernels_views_is_not() -> None:
    assert in_memory(Path("/dev/shm"))
    assert not in_memory(Path(__file__).parent)
    assert not in_memory(Path("/proc"))
