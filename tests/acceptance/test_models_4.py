"""Line 4: layouts of DeepSeek-R1 and V3, by their published shapes, against published figures."""

import json
import sys
from typing import Any

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from workloads.catalogue.models import model_config

MODELS = ("deepseek-r1", "deepseek-v3")
HOSTS = {"2x8 H100": ("h100-sxm", 2), "8 H200": ("h200", 1), "2x8 MI300X": ("mi300x", 2)}
"""The hosts that the line names: GPU of the catalogue, and the number of hosts with eight of them."""
FEWEST = {("h200", "fp8"): 1, ("b200", "fp8"): 1, ("mi300x", "fp8"): 1, ("h100-sxm", "fp8"): 2}
"""Hosts of eight GPUs for DeepSeek-V3 and R1. Source: SGLang's documentation, DeepSeek V3/V3.1/R1 Usage."""
UPCAST = {("h200", "bf16"): 2, ("mi300x", "bf16"): 2, ("h100-sxm", "bf16"): 4}
"""The same for weights in BF16, which one host does not hold in the documented way."""
WEIGHTS_GIB = {
    ("deepseek-r1", 8): 79.41,  # HabanaAI/vllm-fork, issue 809: log of eight devices
    ("deepseek-r1-distill-qwen-14b", 2): 13.9476,  # vllm-project/vllm, issue 13061: log of two GPUs
}
"""GiB of weights on each device with tensor parallelism, from logs of vLLM."""
COMPUTED = {
    # layout: GB of weights on the GPU with the most, and tokens of each rank, calculated by hand for two hosts of eight
    # H100 with 6.5 GB beside on each GPU
    "tensor_parallel 8, pipeline_parallel 2": (43.4, 768_000),
    "tensor_parallel 8, pipeline_parallel 2, decode_context_parallel 8": (43.4, 6_100_000),
    "tensor_parallel 8, data_parallel 2, expert_parallel true": (43.5, 377_000),
    "tensor_parallel 1, data_parallel 16, expert_parallel true": (60.0, None),
}
MARGIN = 0.06


def plan(log: Log, *argv: str, status: int = 0) -> list[dict[str, Any]]:
    """Return the layouts that the command prints; it has to end with *status*."""
    done = log.run([sys.executable, "-m", "workloads.serving.fit", *argv, "--json"])
    need(done.returncode == status, f"fit {' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def name(layout: dict[str, Any]) -> str:
    return ", ".join(f"{key} {str(value).lower()}" for key, value in layout["settings"].items())


def largest(layout: dict[str, Any], part: str) -> int:
    return max(int(stage[f"{part}_bytes"]) for stage in layout["stages"])


@pytest.mark.parametrize("model", MODELS)
@line("models", 4)
def test_layouts_of_deepseek_are_printed_with_the_memory_of_each_gpu(log: Log, model: str) -> str:
    """Each layout of two H100 hosts, one H200 host and two MI300X hosts has room; one H100 host is refused."""
    messages = []
    for hosts, (gpu, count) in HOSTS.items():
        argv = (model, "--gpu", gpu, "--hosts", str(count), "--context-tokens", "32768", "--parallel", "16")
        printed = log.run([sys.executable, "-m", "workloads.serving.fit", *argv])
        need(printed.returncode == 0, f"{hosts}: {printed.stderr.strip()[-300:]}")
        found = plan(log, *argv)
        need(found, f"{hosts}: no layout")
        over = [name(each) for each in found if largest(each, "total") > 0.9 * 192 * 2**30]
        need(not over, f"{hosts}: more than any GPU has: {over}")
        messages.append(f"{hosts}: {name(found[0])}, {largest(found[0], 'total') / 1e9:.1f} GB a GPU")
    refused = log.run([sys.executable, "-m", "workloads.serving.fit", model, "--gpu", "h100-sxm"])
    would = "Serve it on 2 such hosts, with tensor_parallel 8, pipeline_parallel 2"
    need(refused.returncode == 1 and would in refused.stderr, f"8 H100: {refused.stderr.strip()[-300:]}")
    return "; ".join([*messages, "8 H100 are refused, 2 such hosts proposed"])


@line("models", 4, part="published")
def test_the_layouts_agree_with_published_figures(log: Log) -> str:
    directory = log.empty_directory()
    config = model_config("deepseek-r1")
    shapes = {"fp8": directory / "fp8.json", "bf16": directory / "bf16.json"}
    shapes["fp8"].write_text(json.dumps(config))
    del config["quantization_config"]
    shapes["bf16"].write_text(json.dumps(config))
    for (gpu, precision), hosts in {**FEWEST, **UPCAST}.items():
        found = plan(log, str(shapes[precision]), "--gpu", gpu, "--hosts", str(hosts))
        fewest = min(each["hosts"] for each in found)
        need(
            fewest == hosts or (gpu, precision) in UPCAST, f"{gpu}, {precision}: {fewest} hosts, published are {hosts}"
        )
    plan(log, str(shapes["bf16"]), "--gpu", "h200", status=1)
    offs = [_weights_off(log, *each) for each in WEIGHTS_GIB.items()]
    need(max(map(abs, offs)) <= 0.02, f"weights of a GPU are {max(offs, key=abs):+.1%} off the logs")
    return (
        f"{len(FEWEST)} fewest numbers of hosts are those of SGLang's table, {len(UPCAST)} of BF16 have room; "
        f"weights of a GPU at most {max(offs, key=abs):+.2%} off {len(offs)} logs of vLLM; {_computed(log)}"
    )


def _weights_off(log: Log, case: tuple[str, int], gib: float) -> float:
    model, tensor = case
    argv = (model, "--gpu", "h200", "--gpus", str(tensor), "--tensor-parallel", str(tensor))
    [found, *_] = plan(log, *argv)
    return largest(found, "weight") / (gib * 2**30) - 1


def _computed(log: Log) -> str:
    """Hold the layouts of two H100 hosts against the calculation by hand."""
    argv = ("deepseek-r1", "--gpu", "h100-sxm", "--hosts", "2", "--context-tokens", "32768", "--parallel", "1")
    found = {name(each): each for each in plan(log, *argv)}
    offs = []
    for layout, (gigabytes, tokens) in COMPUTED.items():
        need(layout in found, f"{layout} is not printed")
        offs.append(largest(found[layout], "weight") / 1e9 / gigabytes - 1)
        if tokens:
            offs.append(found[layout]["tokens_per_rank"] / tokens - 1)
    worst = max(offs, key=abs)
    need(abs(worst) <= MARGIN, f"the layouts are {worst:+.1%} off a calculation by hand")
    return f"{len(COMPUTED)} layouts at most {worst:+.1%} off a calculation by hand"


@line("models", 4, part="refusals")
def test_a_model_that_does_not_fit_is_refused_with_a_layout_that_does(log: Log) -> str:
    """Each remedy of a refusal fits when it is followed."""
    cases = {
        ("deepseek-r1-distill-llama-70b", "--gpu", "h100-sxm", "--gpus", "1"): "Serve it on 2 such hosts",
        ("deepseek-v3.1", "--gpu", "h200", "--gpus", "4"): "Serve it on 2 such hosts",
        ("deepseek-v3.2", "--gpu", "h100-sxm", "--hosts", "1"): "Serve it on 2 such hosts",
        ("qwen3-32b", "--gpu", "h100-sxm", "--gpus", "1", "--parallel", "64"): "Set parallel to",
    }
    for argv, would in cases.items():
        refused = log.run([sys.executable, "-m", "workloads.serving.fit", *argv])
        need(refused.returncode == 1 and would in refused.stderr, f"{argv[0]}: {refused.stderr.strip()[-300:]}")
        followed = [*argv, "--hosts", "2"] if "hosts" in would else [*argv[:-1], _number(refused.stderr, would)]
        need(plan(log, *followed), f"{argv[0]}: the remedy does not fit")
    return f"{len(cases)} refusals, and the remedy of each fits"


def _number(text: str, before: str) -> str:
    return text.partition(before)[2].split()[0].rstrip(",")
