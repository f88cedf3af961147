"""Line 2: the load of experts of four routers is counted and balanced."""

import json
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import module, python

ROUTERS = {
    "mixtral": {"num_local_experts": 12, "router_aux_loss_coef": 0.2},
    "qwen3_moe": {"num_experts": 12, "router_aux_loss_coef": 0.2},
    "gpt_oss": {"num_local_experts": 12, "router_aux_loss_coef": 0.2},
    "deepseek_v3": {"n_routed_experts": 12},
}
"""Families with routers of their own, and the settings of their experts."""
RUN = (
    "steps=80", "global_batch=8", "accumulate=1", "optimizer.learning_rate=0.01", "schedule.kind=constant",
    "report_every_steps=20", "device=cpu", "saving.every_steps=80",
)  # fmt: skip
OFF = ("router_loss_weight=0.0", "expert_bias_speed=0.0")


@pytest.mark.parametrize("family", ROUTERS)
@line("models2", 2)
def test_a_router_is_counted_and_balanced(log: Log, family: str) -> str:
    """The same run without any balancing, or with it, from the same weights."""
    directory = log.empty_directory()
    code = (
        "import pathlib; from tests.support.families import save; "
        f"save({family!r}, pathlib.Path({str(directory / 'model')!r}), num_hidden_layers=2, **{ROUTERS[family]!r})"
    )
    need(log.run([python(log), "-c", code], ROOT).returncode == 0, "the model cannot be made")
    (directory / "text.txt").write_text("one and one is two, and two and two is four. " * 1200)
    model = json.dumps({"kind": "hugging-face", "path": str(directory / "model")})
    text = json.dumps({"kind": "text", "path": str(directory / "text.txt"), "sequence_length": 64})
    changes = (f"model={model}", f"data={text}", *RUN, *(["expert_bias_speed=0.02"] if family == "deepseek_v3" else []))
    loads = {}
    for name, more in (("balanced", ()), ("free", OFF)):
        given = [part for change in (*changes, *more) for part in ("--set", change)]
        module(log, "lora", "--out", str(directory / name), *given)
        loads[name] = _last(directory / name)
    balanced, free = loads["balanced"], loads["free"]
    need(balanced["experts_unused"] == 0, f"{balanced['experts_unused']} experts have no token")
    need(balanced["expert_load_min"] > free["expert_load_min"], f"the least load is no larger: {loads}")
    need(balanced["expert_load_max"] < free["expert_load_max"], f"the largest load is no smaller: {loads}")
    figures = ", ".join(
        f"{name} {each['expert_load_min']:.2f} to {each['expert_load_max']:.2f}" for name, each in loads.items()
    )
    return f"24 experts, load as multiples of the mean: {figures}"


def _last(out: Path) -> dict[str, float]:
    """Return the last report of a run with the load of its experts."""
    lines = [json.loads(each) for each in (out / "metrics.jsonl").read_text().splitlines()]
    found: dict[str, float] = [each for each in lines if "expert_load_max" in each][-1]
    return found
