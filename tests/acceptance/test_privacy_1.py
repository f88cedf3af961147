"""Line 1: training with differential privacy, its ledger and its receipt."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from rackwright.toolchain import workloads
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log

TESTS = "tests/workloads/training/privacy"
INTERVAL, STEPS = 5, 30
NAMESPACE = "rackwright-privacy"


@cache
def python() -> str:
    return str(workloads.ensure(lambda text: None).python)


def passed(log: Log, *tests: str) -> int:
    """Return the number of cases of *tests*, none of which is skipped or fails, in the environment of the workloads."""
    done = log.run([python(), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], ROOT)
    summary = done.stdout.strip().rpartition("\n")[2]
    found = re.fullmatch(r"(\d+) passed(, \d+ deselected)?(, \d+ warnings?)? in .*", summary)
    need(bool(found), summary)
    assert found
    return int(found[1])


@line("privacy", 1, part="noise")
def test_noise_has_its_size_and_no_seed(log: Log) -> str:
    names = ("noise_of_one", "noise_once", "missing_noise", "configuration_differ", "published")
    count = passed(
        log, f"{TESTS}/test_noise.py", f"{TESTS}/test_private_run.py", "-k", " or ".join((*names, "test_noise"))
    )
    return f"{count} cases: size on 1 and 2 ranks by Horovod and torchrun, no seed, nothing else published"


def settings(folder: Path, epsilon: float, **values: int) -> str:
    budget = {"epsilon": epsilon, "delta": 1e-5, "ledger": str(folder / "ledger")}
    return "privacy=" + json.dumps({"epsilon": epsilon, "delta": 1e-5, "data": "digits", "budget": budget, **values})


def training(folder: Path, epsilon: float, launcher: Sequence[str] = (), **values: int) -> list[str]:
    changes = (
        f"steps={STEPS}", f"saving.every_steps={INTERVAL}", "report_every_steps=1", "model.channels=4",
        settings(folder, epsilon, **values),
    )  # fmt: skip
    given = [argument for change in changes for argument in ("--set", change)]
    return [python(), *launcher, "-m", "workloads.training", "digits", "--out", str(folder / "run"), *given]


def ended_by(number: signal.Signals, folder: Path, epsilon: float, after: int) -> None:
    """Run the training, and end it by a signal once it has reported so many steps."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        training(folder, epsilon),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        seen: list[str] = []
        for text in process.stdout:
            seen.append(text)
            if text.startswith("step ") and sum(each.startswith("step ") for each in seen) == after:
                process.send_signal(number)
        process.wait()
        need(process.returncode in (0, -number), "".join(seen)[-300:])


def ledger_steps(folder: Path) -> int:
    lines = (folder / "ledger/digits.jsonl").read_text().splitlines()[1:]
    return sum(int(json.loads(each)["steps"]) for each in lines)


def steps_that_ran(folder: Path) -> int:
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    return sum("step_seconds" in json.loads(each) for each in lines)


@line("privacy", 1, part="budget")
def test_no_end_of_a_run_hides_a_step_from_the_ledger(log: Log) -> str:
    folder = log.empty_directory()
    launchers = {
        "horovod": ("-m", "horovod.runner.launch", "-np", "2", python()),
        "torchrun": ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    }
    cases, ended = 0, 0
    for epsilon in (8.0, 0.1):
        for name, launcher in launchers.items():
            place = folder / f"{name}-{epsilon}"
            place.mkdir()
            for number in (signal.SIGKILL, signal.SIGTERM):
                log(f"{name}, epsilon {epsilon}: a run that ends by {number.name}")
                ended_by(number, place, epsilon, 8)
                ended += 1
                ran, charged = steps_that_ran(place), ledger_steps(place)
                # the process may have taken one more step than it has reported
                need(ran <= charged <= ran + 1 + ended * INTERVAL, f"{charged} steps are charged, and {ran} ran")
            done = log.run(training(place, epsilon, launcher), ROOT)
            need(done.returncode == 0, done.stdout[-300:] + done.stderr[-300:])
            ran, charged = steps_that_ran(place), ledger_steps(place)
            need(ran <= charged <= ran + ended * INTERVAL, f"{charged} steps are charged, and {ran} ran")
            state = json.loads(report(log, "ledger", str(place / "ledger"), "digits"))
            need(state["used"] <= epsilon, f"{state['used']} of {epsilon} are used")
            cases, ended = cases + 3, 0
    refused = passed(log, f"{TESTS}/test_refusals.py")
    learned = passed(log, f"{TESTS}/test_private_run.py", "-k", "language_models")
    return f"{cases} ends by kill, stop and resume on 2 ranks; {learned} language models; {refused} settings refused"


def report(log: Log, *arguments: str) -> str:
    done = log.run([python(), "-m", "workloads.training.privacy", *arguments], ROOT)
    need(done.returncode == 0, done.stderr[-300:])
    return done.stdout


@line("privacy", 1, part="ledger")
def test_rows_have_one_budget_whatever_their_file_is(log: Log) -> str:
    count = passed(log, f"{TESTS}/test_ledger.py")
    count += passed(log, f"{TESTS}/test_private_run.py", "-k", "exceed_the_total or redone or before_it_starts")
    return f"{count} cases: shuffled, shortened, half, renamed; processes at once; torn and damaged; over the total"


@line("privacy", 1, part="person")
def test_a_person_with_many_rows_moves_a_step_by_the_clip_at_most(log: Log) -> str:
    count = passed(log, f"{TESTS}/test_clipping.py")
    count += passed(log, f"{TESTS}/test_private_run.py", "-k", "person")
    return f"{count} cases: records, pairs and persons, whole and with LoRA; a person with 50 rows"


@line("privacy", 1, part="audit")
def test_an_attack_shows_a_loss_without_a_promise_alone(log: Log) -> str:
    """The last figure is what as many planted records can show at most."""
    count = passed(log, f"{TESTS}/test_attack.py")
    folder = log.empty_directory()
    done = log.run([*training(folder, 1.0, planted_records=192), "--set", "steps=5"], ROOT)
    need(done.returncode == 0, done.stderr[-300:])
    shown = next((each for each in done.stdout.splitlines() if each.startswith("attack: ")), "")
    found = re.search(r"epsilon of at least ([0-9.]+); ([0-9.]+) if all were right", shown)
    need(found is not None and float(found[1]) < 1 < 2.9 < float(found[2]), f"with epsilon 1: {shown or 'no attack'}")
    return f"{count} cases: at least 3 without noise and clip, less than 1 with epsilon 1; {shown}"


@line("privacy", 1, part="receipt")
def test_each_changed_field_of_a_receipt_is_noticed(log: Log) -> str:
    folder = log.empty_directory()
    need(log.run(training(folder, 8.0), ROOT).returncode == 0, "the run failed")
    key, path = folder / "signer", folder / "receipt.json"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    command = ["privacy", "receipt", str(folder / "run"), "--key", str(key), "--to", str(path)]
    done = log.run([str(Path(sys.executable).with_name("rackwright")), *command], ROOT)
    need(done.returncode == 0, done.stderr[-300:])
    (folder / "signers").write_text(f"hospital {key.with_suffix('.pub').read_text()}")

    def is_valid(content: bytes) -> bool:
        argv = ("ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", "hospital")
        files = ("-f", str(folder / "signers"), "-s", f"{path}.sig")
        return subprocess.run([*argv, *files], input=content, capture_output=True).returncode == 0

    fields = json.loads(path.read_text())
    need(is_valid(path.read_bytes()), "the receipt is not valid")
    changed = [json.dumps(fields | {name: "changed"}, indent=2, sort_keys=True) + "\n" for name in fields]
    noticed = sum(not is_valid(text.encode()) for text in changed)
    need(noticed == len(fields), f"{noticed} of {len(fields)} changes are noticed")
    need(fields["epsilon"] <= 8.0 and fields["mechanisms"], "the receipt has no promise")
    return f"{noticed} of {len(fields)} changed fields noticed by ssh-keygen alone"
