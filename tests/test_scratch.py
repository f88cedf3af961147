"""Directories for temporary files."""

import subprocess
import sys
from pathlib import Path


def test_the_directory_of_a_process_goes_with_it_in_silence(tmp_path: Path) -> None:
    script = """
import builtins
from rackwright import scratch
(scratch.of_process() / "file").write_text("text")
builtins.kept = scratch  # until the end, when Python empties modules name by name
"""

    done = subprocess.run(
        [sys.executable, "-c", script], env={"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True
    )

    assert (done.stderr, [*tmp_path.iterdir()]) == ("", [])
