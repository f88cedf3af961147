"""Line 6: one command checks everything that needs a GPU; without one it runs to its end, and says what it skipped."""

import json
import os

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python

WIDTH, SECONDS = 80, 480


@line("models", 6)
def test_the_gpu_checks_run_to_their_end_on_any_machine(log: Log) -> str:
    """With a GPU every check has to pass or to name the package that it lacks."""
    report = log.empty_directory() / "run.json"
    argv = [python(log), "-m", "tests.gpu", "--json", str(report), "--seconds", str(SECONDS)]
    done = log.run(argv, ROOT, {**os.environ, "OMP_NUM_THREADS": "1"}, timeout=2 * SECONDS)
    run = json.loads(report.read_text())
    checks, gpus = run["checks"], run["machine"]["gpus"]
    failed = [f"{each['name']}: {each['reason']}" for each in checks if each["status"] == "failed"]
    need(done.returncode == 0 and not failed, f"status {done.returncode}; {'; '.join(failed)}")
    wide = [text for text in done.stdout.splitlines() if len(text) > WIDTH]
    need(not wide, f"a line of the table has more than {WIDTH} columns: {wide[:1]}")
    counts = {status: sum(each["status"] == status for each in checks) for status in ("ok", "skipped", "not run")}
    need(counts["ok"] > 0, "no check ran")
    if not gpus:
        hardware = [each for each in checks if each["name"] not in run["machine"]["on_processor"]]
        others = {(each["status"], each["reason"]) for each in hardware} - {("skipped", "no NVIDIA GPU")}
        need(not others, f"a hardware check is reported as {others}, on a machine without a GPU")
    where = gpus[0]["name"] if gpus else "no NVIDIA GPU"
    return f"{where}: {', '.join(f'{count} {status}' for status, count in counts.items())}"
