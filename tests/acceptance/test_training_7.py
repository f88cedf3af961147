"""Line 7: mixed precision and NCCL on a real GPU where there is one; else the guide says they are not verified."""

import json
import re
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.gpu_lab import DRIVER
from tests.support.log import ROOT, Log
from tests.support.workloads import python

SAID = re.compile(r"CUDA, ROCm, Gaudi, NCCL and what is measured of a GPU are \*\*unverified on hardware\*\*")


@line("training", 7)
def test_a_real_gpu_trains_in_mixed_precision(log: Log) -> str:
    """The digits in the precision that the catalogue chooses, by one process and by one for each GPU."""
    if not DRIVER.exists():
        need(SAID.search(" ".join((ROOT / "docs/guides/train.md").read_text().split())), "the guide does not say so")
        pytest.skip("unverified on hardware, as the guide says: this computer has no GPU of NVIDIA's with a driver")
    directory = log.empty_directory()
    alone = _trained(log, directory / "alone", python(log))
    torchrun = str(Path(python(log)).with_name("torchrun"))
    together = _trained(log, directory / "together", torchrun, "--standalone", "--nproc-per-node=gpu")
    return f"{alone}; by a process for each GPU: {together}"


def _trained(log: Log, out: Path, *launcher: str) -> str:
    """Train, and return what the first line says of device and precision, with the accuracy at the end."""
    log(f"training in {out.name}")
    done = log.run([*launcher, "-m", "workloads.training", "digits", "--out", str(out)])
    need(done.returncode == 0, f"it ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    [first] = re.findall(r"digits: .*", done.stdout)[:1] or [""]
    need("CUDA" in first and re.search(r"\b(bf16|fp16)\b", first), f"it says {first!r}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    accuracy = [line["accuracy"] for line in lines if "step" in line and "accuracy" in line][-1]
    need(accuracy > 0.9, f"it has learned nothing: accuracy {accuracy}")
    return f"{first}, accuracy {accuracy:.3f}"
