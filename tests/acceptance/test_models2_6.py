"""Line 6: every GPU check runs on a processor, and the command says what a machine cannot do."""

import json
import os
import re

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python, run_tests

REPLACED = " runs on the GPU"
"""End of the reason of a check on a processor that another one replaces."""
SHORT_SECONDS = 25
"""Time of a run that ends before its checks do."""


@line("models2", 6, "checks")
def test_every_gpu_check_runs_to_its_last_figure_on_a_processor(log: Log) -> str:
    names = log.run([python(log), "-m", "tests.gpu", "--list"], ROOT, timeout=120).stdout.splitlines()
    hardware = [name for name in names if "-cpu " not in name]
    last = run_tests(log, "tests/gpu/test_on_processor.py")
    found = re.search(r"(\d+) passed", last)
    passed = int(found[1]) if found else 0
    need(passed > len(hardware) > 0, f"there are {len(hardware)} checks, and pytest says {last}")
    return f"{len(hardware)} checks and their processors' variants to their last figure; {last.strip('= ')}"


@line("models2", 6, "command")
def test_the_gpu_command_names_what_it_did_not_do(log: Log) -> str:
    """A run that is much too short is no failure: its checks are not run, and named."""
    report = log.empty_directory() / "run.json"
    argv = [python(log), "-m", "tests.gpu", "--json", str(report), "--seconds", str(SHORT_SECONDS)]
    done = log.run(argv, ROOT, {**os.environ, "OMP_NUM_THREADS": "1"}, timeout=20 * SHORT_SECONDS)
    run = json.loads(report.read_text())
    failed = [f"{each['name']}: {each['reason']}" for each in run["checks"] if each["status"] == "failed"]
    need(done.returncode == 0 and not failed, f"status {done.returncode}; {'; '.join(failed)}")
    wanting = [each for each in run["checks"] if each["status"] != "ok" and not each["reason"].endswith(REPLACED)]
    last = done.stdout.partition("\nnot done, ")[2]
    missing = [each["name"] for each in wanting if not re.search(rf"\b{each['name']}\b", last)]
    need(not missing, f"the last lines do not name {', '.join(missing)}")
    need(any(each["status"] == "not run" for each in wanting), f"all checks ended within {SHORT_SECONDS} s")
    where = run["machine"]["gpus"][0]["name"] if run["machine"]["gpus"] else "no NVIDIA GPU"
    return f"{where}: {len(wanting)} of {len(run['checks'])} checks named as not done, status 0"
