"""Line 6: `make test` passes three times in a row in a fresh clone, and its time is measured."""

import re
from subprocess import CompletedProcess

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log

RUNS = 3
MARKERS = {
    "unit": "not pulumi and not twin and not soak",
    "pulumi": "pulumi and not twin and not soak",
    "twin": "twin and not soak",
    "acceptance": "acceptance",
}
COUNT = re.compile(r"(?m)^(\d+)(?:/\d+)? tests? collected")


@line("house", 6)
def test_the_test_suite_passes_three_times_in_a_row(log: Log) -> str:
    checkout = log.empty_directory() / "checkout"
    cloned = log.run(["git", "clone", "--quiet", str(ROOT), str(checkout)])
    need(cloned.returncode == 0, f"git clone ended with {cloned.returncode}: {cloned.stderr}")
    minutes = []
    for number in range(1, RUNS + 1):
        log(f"make test, {number} of {RUNS}")
        began = log.seconds
        done = log.run(["make", "test"], checkout)
        minutes.append(f"{(log.seconds - began) / 60:.1f}")
        need(done.returncode == 0, f"run {number} ended with {done.returncode} after {minutes[-1]} min: {_end(done)}")
    counts = []
    for name, expression in MARKERS.items():
        folder = "tests/acceptance" if name == "acceptance" else "tests"
        listed = log.run([".venv/bin/pytest", folder, "--collect-only", "-q", "-m", expression], checkout)
        found = COUNT.search(listed.stdout)
        counts.append(f"{found[1] if found else 'no'} {name}")
    return f"{', '.join(minutes)} min; {', '.join(counts)} tests"


def _end(done: CompletedProcess[str]) -> str:
    return (done.stderr or done.stdout)[-300:]
