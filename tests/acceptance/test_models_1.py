"""Line 1: memory of sharded language models against the estimate, equality of process numbers, and load of experts."""

import json
import os
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import compare_runs, module, python

RANKS = (1, 2, 4)
CASES = 12
"""Measurements of a rank: see tests/support/sharded_memory.py."""
MARGIN = 0.1
"""Largest deviation of the held memory from the estimate."""
SHORT = (
    "--set", "steps=6", "--set", "global_batch=4", "--set", "data.sequence_length=32", "--set", "saving.every_steps=3",
    "--set", "report_every_steps=1000", "--set", "device=cpu",
)  # fmt: skip


@pytest.mark.parametrize("ranks", RANKS, ids="memory-{}".format)
@line("models", 1)
def test_a_sharded_rank_holds_what_the_estimate_says(log: Log, ranks: int) -> str:
    """Full and LoRA, in fp32 and bf16, with activations kept and computed again, and with the loss in chunks."""
    directory = log.empty_directory()
    make = (
        f"import pathlib; from tests.support.sharded_memory import make_model as m; m(pathlib.Path({str(directory)!r}))"
    )
    need(log.run([python(log), "-c", make]).returncode == 0, "the model cannot be made")
    torchrun = str(Path(python(log)).with_name("torchrun"))
    argv = [torchrun, "--standalone", "--nproc-per-node", str(ranks), "-m", "tests.support.sharded_memory"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = log.run([*argv, str(directory)], env=environment, timeout=1800)
    files = directory.glob("memory-*.jsonl")
    found = [json.loads(each) for file in files for each in file.read_text().splitlines()]
    need(len(found) == CASES * ranks, f"{len(found)} of {CASES * ranks} measurements: {done.stderr.strip()[-300:]}")
    worst = max(found, key=lambda each: abs(each["held"] / each["estimate"] - 1))
    off = worst["held"] / worst["estimate"] - 1
    need(abs(off) <= MARGIN, f"{worst} is {off:+.1%} off")
    return f"{len(found)} measurements, at most {off:+.2%} off the estimate"


@pytest.mark.parametrize("ranks", RANKS[1:], ids="equality-{}".format)
@line("models", 1)
def test_sharded_ranks_learn_what_one_process_learns(log: Log, ranks: int) -> str:
    directory = log.empty_directory()
    module(log, "deepseek-v3-tiny", "--out", str(directory / "one"), *SHORT)
    launcher = ("torchrun", "--standalone", "--nproc-per-node", str(ranks))
    sharded = ("--out", str(directory / "sharded"), *SHORT, "--set", "sharding=full")
    module(log, "deepseek-v3-tiny", *sharded, launcher=launcher)
    difference = compare_runs(log, directory / "one", directory / "sharded")
    need(difference < 1e-4, f"a weight differs by {difference}")
    return f"weights after 6 steps differ by at most {difference:.2g}"


MESHES = {
    2: ("tensor_parallel=2", "expert_parallel=2", "tensor_parallel=2 expert_parallel=2"),
    4: ("tensor_parallel=2", "expert_parallel=2", "expert_parallel=4", "tensor_parallel=2 expert_parallel=2",
        "tensor_parallel=2 expert_parallel=4"),
}  # fmt: skip
"""Layouts of each number of processes. The models have two key-value heads, and eight experts."""


@pytest.mark.parametrize("ranks", MESHES, ids="equality-mesh-{}".format)
@line("models", 1)
def test_parallel_layers_learn_what_one_process_learns(log: Log, ranks: int) -> str:
    """Llama, Qwen3 and its mixture of experts, and DeepSeek-V3 with multi-token prediction, on each mesh."""
    directory = log.empty_directory()
    code = "from pathlib import Path; from tests.support.parallel_meshes import make_models; "
    need(
        log.run([python(log), "-c", f"{code}make_models(Path({str(directory)!r}))"]).returncode == 0,
        "the models cannot be made",
    )
    cases = [
        f"{model} sharding=full {mesh}"
        for mesh in MESHES[ranks]
        for model in ("llama", "qwen3", "qwen3-moe", "deepseek-v3-tiny model.mtp={}")
        if "expert" not in mesh or model not in ("llama", "qwen3")
    ]
    if ranks == max(MESHES):  # two hosts of two processes
        cases += [f"qwen3-moe sharding=hybrid {mesh}" for mesh in MESHES[2]]
    torchrun = str(Path(python(log)).with_name("torchrun"))
    argv = [torchrun, "--standalone", "--nproc-per-node", str(ranks), "-m", "tests.support.parallel_meshes"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = log.run([*argv, str(directory), *cases], env=environment, timeout=1800)
    found = [json.loads(each) for each in done.stdout.splitlines() if each.startswith("{")]
    need(len(found) == len(cases), f"{len(found)} of {len(cases)} cases: {done.stderr.strip()[-300:]}")
    worst = max(each["difference"] for each in found)
    need(worst < 1e-6, f"a weight differs by {worst}")
    off = max(abs(each["held"] / each["estimate"] - 1) for each in found)
    need(off <= MARGIN, f"a process holds {off:.1%} more or less than the estimate")
    return f"{len(found)} cases: weights differ by at most {worst:.2g}, and parts by {off:.1%} from the estimate"


@line("models", 1, part="equality-hosts")
def test_hosts_with_a_copy_each_learn_what_one_process_learns(log: Log) -> str:
    """Hybrid sharding: two hosts, each with one copy that its two processes share."""
    directory = log.empty_directory()
    module(log, "deepseek-v3-tiny", "--out", str(directory / "one"), *SHORT)
    out, changes = directory / "sharded", [*SHORT[1::2], "sharding=hybrid"]
    code = (
        "import pathlib; from tests.support.training_runs import launched_by_hosts as launch; "
        f"print(launch(2, 2, 'deepseek-v3-tiny', pathlib.Path({str(out)!r}), *{changes!r}))"
    )
    done = log.run([python(log), "-c", code], ROOT, {**os.environ, "PYTHONPATH": str(ROOT)}, timeout=1800)
    need(done.returncode == 0, f"the runs ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    difference = compare_runs(log, directory / "one", out)
    need(difference < 1e-4, f"a weight differs by {difference}")
    return f"weights after 6 steps differ by at most {difference:.2g}"


@line("models", 1, part="experts")
def test_every_expert_works_after_the_recipe(log: Log) -> str:
    directory = log.empty_directory()
    module(log, "deepseek-v3-tiny", "--out", str(directory / "run"), "--set", "report_every_steps=50")
    lines = [json.loads(each) for each in (directory / "run" / "metrics.jsonl").read_text().splitlines()]
    last = [each for each in lines if "loss" in each][-1]
    need(last["experts_unused"] == 0, f"{last['experts_unused']} experts have no token")
    load = f"least {last['expert_load_min']:.2f}, most {last['expert_load_max']:.2f} of the mean"
    return f"step {last['step']}: load of experts {load}"
