"""Each setting that would silently break the promise is refused by its name."""

import json
from typing import Any

import pytest

from tests.support.training_runs import config
from workloads.errors import UserError
from workloads.training.config import TrainingConfig
from workloads.training.privacy import refusals

PRIVACY: dict[str, Any] = {
    "epsilon": 8.0, "delta": 1e-5, "data": "rows", "budget": {"epsilon": 8.0, "delta": 1e-5, "ledger": "/tmp/ledger"},
}  # fmt: skip
CHAT = {"kind": "conversations", "path": "/data", "tokenizer": "/model", "sequence_length": 64}
LM = {"kind": "hugging-face", "path": "/model"}


def private(recipe: str, **values: Any) -> TrainingConfig:
    values = {"privacy": PRIVACY, **values}
    return config(recipe, *(f"{name}={json.dumps(value)}" for name, value in values.items()))


@pytest.mark.parametrize(
    ("recipe", "values", "refused"),
    [
        ("lora", {}, "data.kind text"),
        ("grpo", {}, "data.kind tasks"),
        ("lora", {"data": {**CHAT, "packed": True}}, "data.packed true"),
        ("deepseek-v3-tiny", {"data": CHAT}, "model.kind deepseek-v3"),
        ("lora", {"data": CHAT, "model": {**LM, "lora": {"four_bit": True}}}, "model.lora.four_bit"),
        ("lora", {"data": CHAT, "compile": True}, "compile true"),
        ("lora", {"data": CHAT, "chunked_loss": True}, "chunked_loss true"),
        ("lora", {"data": CHAT, "recompute_activations": True}, "recompute_activations true"),
        ("digits", {"optimizer.clip_norm": 1.0}, "optimizer.clip_norm"),
        ("lora", {"data": CHAT, "model": LM, "sharding": "full", "tensor_parallel": 2}, "tensor_parallel 2"),
        ("lora", {"data": CHAT, "model": LM, "sharding": "full", "expert_parallel": 2}, "expert_parallel 2"),
        ("digits", {"sharding": "full"}, "sharding full"),
        ("digits", {"elastic": True}, "elastic"),
        ("digits", {"compression": "fp16"}, "compression fp16"),
        ("digits", {"precision": "fp16"}, "precision fp16"),
        ("digits", {"fine_tuning": {"parent": "/parent"}}, "fine_tuning"),
        ("digits", {"privacy": {**PRIVACY, "unit": "person"}}, "unit person"),
        ("digits", {"privacy": {**PRIVACY, "epsilon": 9.0}}, "epsilon 9"),
        ("digits", {"privacy": {**PRIVACY, "delta": 1e-4}}, "delta 0.0001"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_refused(recipe: str, values: dict[str, Any], refused: str) -> None:
    with pytest.raises(UserError) as caught:
        private(recipe, **values)
    assert f"privacy refuses {refused}:" in str(caught.value)
    plain = {name: value for name, value in values.items() if name != "privacy"}
    if plain and recipe != "grpo":
        private(recipe, **plain, privacy=None)  # alone it is right


def test_automatic_settings_take_the_value_that_is_not_refused() -> None:
    settled = refusals.settle(private("lora", data=CHAT, **{"optimizer.clip_norm": None}))
    assert (settled.data.packed, settled.compile, settled.chunked_loss) == (False, False, False)  # type: ignore[union-attr]
