"""Line 2: routers are balanced, and a model learns a rule from its rewards."""

import json
import random
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import compare_runs, module, python

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
LARGEST_DIFFERENCE = 1e-3
"""Largest difference of a weight that the order of additions may make in 20 steps."""
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
        _train(log, "lora", directory / name, *changes, *more)
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


SYMBOLS = "abcdefgh"
RUNS = (
    ("learned", "talked", "exact", 240),
    ("constant", "talked", "constant", 40),
    ("measured", "constant", "exact", 1),
)
"""Runs by name: their parent, their rule and their steps. The last one measures the weights of the one before."""


@line("models2", 2, "grpo")
def test_a_model_learns_a_rule_from_rewards(log: Log) -> str:
    """The answer to a prompt is its first digit. A model that answers with any digit learns it by rewards alone."""
    directory = log.empty_directory()
    code = (
        "import pathlib; from transformers import LlamaForCausalLM; "
        "from tests.support.chat_tokenizer import LLAMA, bytes_tokenizer; import torch; torch.manual_seed(0); "
        f"path = pathlib.Path({str(directory / 'model')!r}); "
        "bytes_tokenizer().save_pretrained(path); LlamaForCausalLM(LLAMA).save_pretrained(path)"
    )
    need(log.run([python(log), "-c", code], ROOT).returncode == 0, "the model cannot be made")
    draw = random.Random(0)
    prompts = [f"{digit}{one}{other}?" for digit in range(10) for one in SYMBOLS for other in SYMBOLS]
    prompts = sorted(draw.sample(prompts, 300))
    talks = (
        {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": str(draw.randrange(10))}]}
        for prompt in prompts * 3
    )
    files = {"talks": talks, "tasks": ({"prompt": prompt, "answer": prompt[0]} for prompt in prompts)}
    for name, rows in files.items():
        (directory / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    common = {"tokenizer": str(directory / "model"), "sequence_length": 24}
    chat = {"kind": "conversations", "path": str(directory / "talks.jsonl"), **common, "held_out": 0.1, "packed": False}
    model = json.dumps({"kind": "hugging-face", "path": str(directory / "model")})
    plain = (f"model={model}", "schedule.kind=constant", "device=cpu", "accumulate=1", "saving.every_steps=1000")
    start = (f"data={json.dumps(chat)}", "steps=150", "global_batch=32", "optimizer.learning_rate=0.003")
    _train(log, "lora", directory / "talked", *plain, *start)
    scores = {}
    for name, parent, rule, steps in RUNS:
        tasks = {"kind": "tasks", "path": str(directory / "tasks.jsonl"), **common, "answer_tokens": 4, "held_out": 0.2,
                 "rewards": [{"kind": rule}]}  # fmt: skip
        tuning = {"parent": str(directory / parent), "may_lose": 0.99, "evaluate_every_steps": 40}
        more = (f"data={json.dumps(tasks)}", f"fine_tuning={json.dumps(tuning)}", f"steps={steps}")
        status = 1 if rule == "constant" else 0  # it learns nothing, and is not published
        settings = (*plain, *more, "optimizer.learning_rate=0.002", "global_batch=16")
        _train(log, "grpo", directory / name, *settings, status=status)
        scores[name] = json.loads((directory / name / "lineage.json").read_text())["scores"][0]
    before, after = scores["learned"]["parent"]["accuracy"], scores["learned"]["accuracy"]
    unchanged = scores["measured"]["parent"]["accuracy"]
    need(scores["learned"]["answers"] >= 30, f"{scores['learned']['answers']} prompts are held out")
    need(before < 0.2, f"the reward is {before:.2f} before the first step")
    need(after > 0.8, f"the reward is {after:.2f} at the end")
    need(unchanged == before, f"with a constant reward it is {unchanged:.2f}, and was {before:.2f}")
    cases = f"300 prompts, {scores['learned']['answers']} of them held out"
    return f"{cases}: reward {before:.2f} to {after:.2f}, with a constant reward {unchanged:.2f}"


@line("models2", 2, "qlora")
def test_two_ranks_that_divide_4_bits_learn_what_one_does(log: Log) -> str:
    """Adapters beside a base of 4 bits: two processes with half of the base each, and one with all of it."""
    directory = log.empty_directory()
    code = (
        "import pathlib; from tests.support.sharded_memory import make_model; "
        f"make_model(pathlib.Path({str(directory)!r}), layers=2)"
    )
    need(log.run([python(log), "-c", code], ROOT).returncode == 0, "the model cannot be made")
    model = json.dumps({"kind": "hugging-face", "path": str(directory), "lora": {"rank": 4, "four_bit": True}})
    text = json.dumps({"kind": "text", "path": str(directory / "text.txt"), "sequence_length": 32})
    given = (f"model={model}", f"data={text}", "steps=20", "global_batch=8", "accumulate=1", "device=cpu",
             "optimizer.learning_rate=0.01", "schedule.kind=constant", "saving.every_steps=20",
             "report_every_steps=1")  # fmt: skip
    losses = {}
    for name, more, launcher in (("one", (), ()), ("two", ("sharding=full",), ("torchrun", "--nproc-per-node", "2"))):
        arguments = (part for change in (*given, *more) for part in ("--set", change))
        module(log, "lora", "--out", str(directory / name), *arguments, launcher=launcher)
        lines = [json.loads(each) for each in (directory / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [each["loss"] for each in lines if "loss" in each]
    difference = compare_runs(log, directory / "one", directory / "two")
    need(losses["one"][-1] < losses["one"][0], f"nothing is learned: {losses['one'][0]} to {losses['one'][-1]}")
    need(difference < LARGEST_DIFFERENCE, f"a weight differs by {difference}")
    course = f"loss {losses['one'][0]:.3f} to {losses['one'][-1]:.3f}"
    return f"20 steps, {course}; largest difference of a weight {difference:.1g}"


def _train(log: Log, recipe: str, out: Path, *changes: str, status: int = 0) -> None:
    settings = (part for change in changes for part in ("--set", change))
    module(log, recipe, "--out", str(out), *settings, status=status)
