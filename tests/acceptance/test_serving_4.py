"""Line 4: more requests per second than others, with the same model, cores and load; and 8 bits that are worth it."""

import json
import os
import sys

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.workloads import python

FLOOR, AIM = 1.5, 2.0
SOONER = 1.5
"""Than torch.load of the same model in full precision, from the drive to the first answer."""
FASTER, FASTER_AIM, KEPT = 2.0, 2.5, 0.98
"""Of 8 bits at batch 1, with so much of the accuracy kept."""


@line("serving", 4, part="peers")
def test_the_server_answers_more_requests_than_its_peers(log: Log) -> str:
    """Three rounds of 60 s each, in both orders, beside LitServe and MLServer in environments of their own."""
    log("rackwright, litserve, mlserver: 3 rounds of 60 s")
    done = log.run([sys.executable, "-m", "benchmarks.serving"], timeout=3600)
    need(done.returncode == 0, f"the bench failed: {done.stderr.strip().splitlines()[-1:]}")
    report, [where, *_] = json.loads(done.stdout.splitlines()[-1]), done.stdout.splitlines()
    figures = ", ".join(
        f"{name} {each['per_second']:.0f}/s with p99 {each['p99_ms']:.1f} ms"
        for name, each in report["medians"].items()
    )
    ratios = " and ".join(f"{ratio} times {name}" for name, ratio in report["ratios"].items())
    need(all(ratio >= FLOOR for ratio in report["ratios"].values()), f"less than {FLOOR}: {ratios}; {figures}")
    return f"{ratios} (at least {FLOOR}, aim {AIM}): {figures}; {where}"


@line("serving", 4, part="int8")
def test_an_8_bit_model_is_faster_than_its_original(log: Log) -> str:
    """A ResNet-18 that has learned the digits, one row at a time, one thread, in turns with its original."""
    directory, own = log.empty_directory(), {**os.environ, "OMP_NUM_THREADS": "1"}
    log("training a ResNet-18")
    done = log.run([python(log), "-m", "tests.support.models.resnet", str(directory)], env=own)
    need(done.returncode == 0, f"it was not trained: {done.stderr.strip().splitlines()[-1:]}")
    log("quantising it")
    given = ("--data", str(directory / "rows.npz"), "--target", "cpu", "--out", str(directory / "int8"))
    done = log.run([python(log), "-m", "workloads.quantize", str(directory / "resnet"), *given], env=own)
    need(done.returncode == 0, f"it was not published: {done.stderr.strip().splitlines()[-1:]}")
    report = json.loads((directory / "int8.report" / "report.json").read_text())
    before, after, kept = report["before"], report["after"], report["gate"]["found"]["accuracy_kept"]
    ratio = {batch: before["milliseconds"][batch] / after["milliseconds"][batch] for batch in ("1", "32")}
    figures = (
        f"batch 1 {ratio['1']:.2f} times faster (at least {FASTER}, aim {FASTER_AIM}), batch 32 {ratio['32']:.2f}, "
        f"weights {before['weight_bytes'] / after['weight_bytes']:.2f} times smaller, {kept:.2%} of the accuracy kept, "
        f"on {report['machine']}"
    )
    need(ratio["1"] >= FASTER and kept >= KEPT, figures)
    return figures


@line("serving", 4, part="load")
def test_an_8_bit_model_starts_sooner_than_its_original(log: Log) -> str:
    """A transformer of 86 million parameters, published in 8 bits, its files dropped from the page cache each time."""
    log("publishing a transformer of 86 million parameters, and loading it in turns with torch.load")
    done = log.run([python(log), "-m", "benchmarks.loading"], timeout=1800)
    need(done.returncode == 0, f"the bench failed: {done.stderr.strip().splitlines()[-1:]}")
    report, [where, *_] = json.loads(done.stdout.splitlines()[-1]), done.stdout.splitlines()
    seconds, ratios = report["seconds"], report["ratios"]
    figures = "; ".join(
        f"{text} {ratios[state]['int8']} times as fast (torch.load {1000 * seconds[state]['torch.load']:.0f} ms, 8 bits"
        f" {1000 * seconds[state]['int8']:.0f}, full precision {1000 * seconds[state]['fp32']:.0f})"
        for state, text in (("cold", "libraries imported:"), ("process", "with their imports:"))
    )
    need(ratios["cold"]["int8"] >= SOONER, f"less than {SOONER}: {figures}")
    return f"{figures}; at least {SOONER}; {where}"
