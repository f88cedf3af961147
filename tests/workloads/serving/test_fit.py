"""What a language model takes of GPUs, against published figures; and what is proposed where it does not fit."""

import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from workloads.errors import UserError
from workloads.serving.fit import GIB, OVERHEAD_BYTES, DoesNotFit, Sizes, fit, sizes

DEEPSEEK_R1: dict[str, Any] = {
    "model_type": "deepseek_v3", "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
    "hidden_size": 7168, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "max_position_embeddings": 163840,
    "torch_dtype": "bfloat16",
}  # fmt: skip
LLAMA_70B: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
    "hidden_size": 8192, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN_7B: dict[str, Any] = {
    "model_type": "qwen2", "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "hidden_size": 3584, "max_position_embeddings": 32768, "torch_dtype": "bfloat16",
}  # fmt: skip
R1 = sizes(DEEPSEEK_R1, 688_600_000_000)
B70 = sizes(LLAMA_70B, 141_000_000_000)
B7 = sizes(QWEN_7B, 15_200_000_000)

H100, H200, T4 = 80 * GIB, 141 * GIB, 16 * GIB


def test_the_cache_is_keys_and_values_of_every_layer() -> None:
    assert (B70.cache_bytes_per_token, B70.heads, B70.cache_parts) == (2 * 80 * 8 * 128 * 2, 64, 8)
    assert (B7.cache_bytes_per_token, B7.context_tokens) == (57344, 32768)


def test_a_head_is_as_wide_as_it_says() -> None:
    wide = sizes({**QWEN_7B, "head_dim": 256}, 1)
    assert wide.cache_bytes_per_token == 2 * B7.cache_bytes_per_token


def test_a_model_without_heads_of_its_own_for_the_cache_has_as_many_as_others() -> None:
    told = sizes({**LLAMA_70B, "num_key_value_heads": None}, 1)
    assert (told.cache_bytes_per_token, told.cache_parts) == (8 * B70.cache_bytes_per_token, 64)


def test_deepseek_keeps_one_latent_which_is_on_every_gpu() -> None:
    # vLLM's log of R1 over 8 H200: 21.43 GiB are 294688 tokens, 78083 bytes for each; that version rounds 576 up to 640
    assert R1.cache_bytes_per_token == 61 * (512 + 64) * 2
    assert R1.cache_bytes_per_token * 640 // 576 == pytest.approx(21.43 * GIB / 294688, rel=0.001)
    least = lambda tp: OVERHEAD_BYTES + R1.weight_bytes // tp + R1.cache_bytes_per_token * 4096  # noqa: E731
    assert fit(R1, -(-least(8) * 100 // 90), 8, 4096, 1).tensor_parallel == 8
    with pytest.raises(DoesNotFit):
        fit(R1, least(8) * 100 // 90 - GIB // 64, 8, 4096, 1)


def test_what_is_nested_counts() -> None:
    nested = {"dtype": "bfloat16", "text_config": {k: v for k, v in QWEN_7B.items() if k != "torch_dtype"}}
    assert sizes(nested, 15_200_000_000) == B7


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "config.json, torch_dtype: the precision None is not supported"),
        ({**QWEN_7B, "torch_dtype": "int8"}, "torch_dtype: the precision 'int8' is not supported"),
        ({"torch_dtype": "bfloat16", "num_hidden_layers": 24}, "num_attention_heads: None is not a size"),
        ({**QWEN_7B, "num_hidden_layers": True}, "num_hidden_layers: True is not a size"),
        ({**QWEN_7B, "num_key_value_heads": 0}, "num_key_value_heads: 0 is not a size"),
        ({**DEEPSEEK_R1, "model_type": "deepseek_v32"}, "of 'deepseek_v32' is not supported"),
        ({**DEEPSEEK_R1, "qk_rope_head_dim": None}, "qk_rope_head_dim: None is not a size"),
        ({**QWEN_7B, "max_position_embeddings": None}, "max_position_embeddings: None is not a size"),
    ],
)
def test_what_does_not_say_its_cache_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        sizes(config, 1)


def test_sizes_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match="sizes.heads: 0 is not a size"):
        Sizes(1, 1, 1, 0)


@pytest.mark.parametrize(
    ("model", "memory", "gpus", "tensor_parallel"),
    [(B7, H100, 8, 1), (B70, H100, 8, 2), (B70, H100, 2, 2), (B70, H200, 8, 2), (R1, H200, 8, 8), (B7, T4, 4, 2)],
)
def test_published_models_take_the_fewest_gpus(model: Sizes, memory: int, gpus: int, tensor_parallel: int) -> None:
    assert fit(model, memory, gpus, 4096, 4).tensor_parallel == tensor_parallel


@pytest.mark.parametrize(("model", "memory", "gpus"), [(R1, H100, 8), (R1, H200, 4), (B70, H100, 1), (B7, T4, 1)])
def test_published_models_that_do_not_fit_are_refused(model: Sizes, memory: int, gpus: int) -> None:
    with pytest.raises(DoesNotFit, match="there is no room for the weights"):
        fit(model, memory, gpus, 4096, 4)


def test_the_arithmetic_is_said() -> None:
    assert fit(R1, H200, 8, 4096, 4).text == (
        "688.6 GB of weights on 8 GPUs: each has 86.1 GB of them, 1.2 GB of cache (parallel 4, context_tokens 4096) "
        "and 1.6 GB beside, 88.8 GB in all, of 136.3 GB for vLLM (90 % of 141 GiB)"
    )
    with pytest.raises(DoesNotFit) as refused:
        fit(R1, H100, 8, 4096, 4)
    assert str(refused.value) == (
        "vLLM: the model does not fit: 688.6 GB of weights on 8 GPUs: each has 86.1 GB of them, "
        "1.2 GB of cache (parallel 4, "
        "context_tokens 4096) and 1.6 GB beside, 88.8 GB in all, of 77.3 GB for vLLM (90 % of 80 GiB); "
        "weights and cache that fit the memory of each GPU; there is no room for the weights. "
        "Serve it on 16 such GPUs of one host, or on GPUs of 92 GiB."
    )
    assert refused.value.exit_status == 2


def test_what_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(
        DoesNotFit,
        match="context_tokens 40000 is more than the model takes; at most 32768. Set context_tokens to 32768",
    ):
        fit(B7, H100, 1, 40000, 1)


@pytest.mark.parametrize(("tensor_parallel", "gpus"), [(3, 8), (8, 4), (16, 16)])
def test_a_division_that_cannot_be_is_refused(tensor_parallel: int, gpus: int) -> None:
    with pytest.raises(
        DoesNotFit, match=f"by tensor_parallel {tensor_parallel}; .*Set tensor_parallel to one of 1, 2, 4"
    ):
        fit(B7, H100, gpus, 4096, 1, tensor_parallel)


def test_a_division_that_was_asked_for_is_held_to() -> None:
    assert fit(B7, H100, 8, 4096, 1, 4).tensor_parallel == 4
    with pytest.raises(DoesNotFit, match=r"Set tensor_parallel to 2, or serve it on GPUs of 14\d GiB\.$"):
        fit(B70, H100, 8, 4096, 1, 1)


LARGE = st.builds(
    lambda weights, layers, parts, repeats, latent: Sizes(
        weights, layers * 256 * (1 if latent else parts), 131072, parts * repeats, 1 if latent else parts
    ),
    st.integers(10**9, 10**12),
    st.integers(1, 128),
    st.sampled_from([1, 2, 4, 7, 8, 12, 32]),
    st.sampled_from([1, 2, 7, 8]),
    st.booleans(),
)
PLAN = {
    "model": LARGE,
    "memory": st.integers(8, 200).map(lambda gib: gib * GIB),
    "gpus": st.integers(1, 16),
    "context": st.integers(1, 131072),
    "parallel": st.integers(1, 256),
}


@settings(deadline=None)
@given(**PLAN, more=st.integers(0, 64 * GIB), further=st.integers(0, 8))
def test_what_fits_still_fits_with_more(
    model: Sizes, memory: int, gpus: int, context: int, parallel: int, more: int, further: int
) -> None:
    try:
        found = fit(model, memory, gpus, context, parallel)
    except DoesNotFit:
        assume(False)
    larger = fit(model, memory + more, gpus + further, context, parallel)
    assert larger.tensor_parallel <= found.tensor_parallel <= gpus
    assert model.heads % found.tensor_parallel == 0
    assert fit(model, memory, gpus, max(1, context - 1), max(1, parallel - 1)).tensor_parallel <= found.tensor_parallel


@settings(deadline=None)
@given(**PLAN)
def test_what_is_proposed_fits(model: Sizes, memory: int, gpus: int, context: int, parallel: int) -> None:
    try:
        fit(model, memory, gpus, context, parallel)
    except DoesNotFit as refused:
        told = refused.diagnostic.help
    else:
        assume(False)
    both = re.search(r"et parallel to 1 and context_tokens to (\d+)", told)
    if both:
        fit(model, memory, gpus, int(both[1]), 1)
    for fewer in re.findall(r"et parallel to (\d+)", told if not both else ""):
        assert int(fewer) < parallel
        fit(model, memory, gpus, context, int(fewer))
    for shorter in re.findall(r"et context_tokens to (\d+)", told):
        assert int(shorter) < context
        fit(model, memory, gpus, int(shorter), parallel)
    for wanted in re.findall(r"on (\d+) such GPUs", told):
        assert int(wanted) > gpus
        fit(model, memory, int(wanted), context, parallel)
    (large,) = re.findall(r"on GPUs of (\d+) GiB", told)
    assert int(large) * GIB > memory
    fit(model, int(large) * GIB, gpus, context, parallel)
