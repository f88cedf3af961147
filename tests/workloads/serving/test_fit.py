"""Layouts of language models: weights, cache and vLLM's own memory of each GPU, and what is proposed instead."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from workloads.catalogue.models import model_config, model_names, published_bytes, published_file_bytes
from workloads.errors import UserError
from workloads.serving.fit import (
    GIB,
    DoesNotFit,
    Gpus,
    Layout,
    Load,
    Sizes,
    Wish,
    best_fit,
    computed_tensors,
    fits,
    memory,
    parse_sizes,
    reported_bytes,
    sizes,
)  # fmt: skip
from workloads.serving.fit.memory import stages
from workloads.serving.fit.overhead import activation_bytes, overhead_bytes
from workloads.serving.fit.shape import shape_of

LLAMA, QWEN, DEEPSEEK = map(model_config, ("llama-3.1-70b", "deepseek-r1-distill-qwen-7b", "deepseek-r1"))
LABELS = {"h100": 80, "h200": 141, "t4": 16, "mi300x": 192}
LOAD = Load(4096, 4)


def published(name: str) -> Sizes:
    config = model_config(name)
    return sizes(config, computed_tensors(shape_of(config)))


def gpus(name: str, per_host: int = 8, hosts: int = 1) -> Gpus:
    return Gpus(reported_bytes(LABELS[name] * 10**9), per_host, hosts)


R1, B70, B7, MIXTURE = map(
    published, ("deepseek-r1", "llama-3.1-70b", "deepseek-r1-distill-qwen-7b", "qwen3-235b-a22b")
)
TP8_PP2 = Layout(2, 8, 2)
DP16_EP16 = Layout(2, 1, 1, 16, True)


@pytest.mark.parametrize("name", [name for name in model_names() if published_bytes(name)])
def test_the_shape_gives_the_bytes_that_are_published(name: str) -> None:
    assert published(name).weight_bytes == published_bytes(name)


def test_the_shape_gives_the_files_that_are_published_but_for_their_heads() -> None:
    tensors = computed_tensors(shape_of(DEEPSEEK))
    files = published_file_bytes("deepseek-v3")
    heads = files - sum(tensors.values()) if files else 0
    assert heads / len(tensors) == pytest.approx(130, abs=20), "bytes of a name, a type, a shape and two offsets"
    assert sum(tensors.values()) == R1.weight_bytes + R1.draft_bytes


def test_the_cache_is_keys_and_values_of_every_layer() -> None:
    assert (B70.cache_bytes_per_token, B70.heads, B70.cache_parts) == (2 * 80 * 8 * 128 * 2, 64, 8)
    assert (B7.cache_bytes_per_token, B7.fp8_cache_bytes_per_token, B7.context_tokens) == (57344, 28672, 131072)
    wide = shape_of({**QWEN, "head_dim": 256})
    assert sizes({**QWEN, "head_dim": 256}, {}).cache_bytes_per_token == 2 * B7.cache_bytes_per_token
    assert wide.cache_parts == 4
    assert shape_of({**LLAMA, "num_key_value_heads": None}).cache_parts == 64


def test_deepseek_keeps_one_latent() -> None:
    # vLLM's log of R1 over 8 H200: 21.43 GiB are 294688 tokens, 78083 bytes for each; that version rounds 576 up to 640
    assert R1.cache_bytes_per_token == 61 * (512 + 64) * 2
    assert R1.cache_bytes_per_token * 640 // 576 == pytest.approx(21.43 * GIB / 294688, rel=0.001)
    index = 128 + 4  # sparse attention has a key in FP8 with its scale beside the latent
    assert published("deepseek-v3.2").cache_bytes_per_token == 61 * ((512 + 64) * 2 + index)


def test_tensor_parallelism_divides_all_but_small_matrices() -> None:
    [stage] = memory(R1, Layout(1, 8), LOAD)
    # 79.41 GiB on each of 8 devices: log in HabanaAI/vllm-fork, issue 809
    assert stage.weights == pytest.approx(79.41 * GIB, rel=0.005)
    assert stage.cache == 4 * 4096 * R1.cache_bytes_per_token, "each GPU has a copy of the latent"
    [divided] = memory(R1, Layout(1, 8, context_parallel=8), LOAD)
    assert divided.cache == stage.cache // 8


def test_a_rank_of_data_parallelism_has_all_but_experts_whole() -> None:
    [stage] = memory(R1, DP16_EP16, LOAD)
    assert stage.weights == pytest.approx(60.0e9, rel=0.001)
    assert stage.weights > 1.4 * R1.weight_bytes / 16
    rest = R1.weight_bytes - sum(R1.expert_bytes)
    assert stage.weights == pytest.approx(rest + sum(R1.expert_bytes) / 16, rel=1e-6)
    assert stage.cache == 4096 * R1.cache_bytes_per_token, "16 ranks have a text each at most"


def test_whole_experts_are_counted_on_the_gpu_with_the_most() -> None:
    few = replace(R1, experts=12, expert_bytes=tuple(size and 1200 for size in R1.expert_bytes))
    [stage] = memory(few, Layout(1, 1, 1, 8, True), LOAD)
    [even] = memory(few, Layout(1, 1, 1, 8, False), LOAD)
    assert stage.weights - even.weights == 58 * (200 - 150)


def test_a_stage_has_whole_layers_and_their_cache_alone() -> None:
    first, last = memory(R1, TP8_PP2, LOAD)
    assert (first.layers, last.layers) == (31, 30)
    assert first.cache_per_token == 31 * 576 * 2
    assert (first.weights, last.weights) == (pytest.approx(40.9e9, rel=0.01), pytest.approx(43.6e9, rel=0.01))
    assert first.weights + last.weights == pytest.approx(memory(R1, Layout(1, 8), LOAD)[0].weights, rel=1e-6)


@pytest.mark.parametrize(
    ("layers", "count", "wanted"),
    [(61, 2, [31, 30]), (61, 4, [15, 15, 16, 15]), (80, 4, [20] * 4), (62, 4, [15, 16, 16, 15]), (5, 1, [5])],
)
def test_layers_are_divided_as_vllm_divides_them(layers: int, count: int, wanted: list[int]) -> None:
    assert [len(stage) for stage in stages(layers, count)] == wanted
    assert [layer for stage in stages(layers, count) for layer in stage] == list(range(layers))


def test_a_cache_in_fp8_has_half_the_bytes() -> None:
    [plain], [fp8] = (memory(R1, Layout(1, 8), replace(LOAD, cache_dtype=dtype)) for dtype in ("auto", "fp8"))
    assert fp8.cache * 2 == plain.cache


def test_layers_for_speculation_count_only_with_it() -> None:
    plain, draft = (memory(R1, TP8_PP2, replace(LOAD, draft=draft)) for draft in (False, True))
    assert plain[0] == draft[0], "they are in the last stage"
    assert draft[1].weights - plain[1].weights == -(-R1.draft_bytes // 8)
    assert draft[1].cache_per_token == 31 * 576 * 2


def test_vllm_needs_what_its_logs_report() -> None:
    # Llama 3.1 8B on one H100: 1.26 GiB of activations (vllm-project/vllm, pull request 10511)
    small = published("llama-3.1-8b")
    assert activation_bytes(small, Layout(), Load(8192, 256)) == pytest.approx(1.26 * GIB, rel=0.2)
    # DeepSeek-R1 over 8 H200: 6.4 and 7.2 GiB
    assert 5.9e9 < overhead_bytes(R1, Layout(1, 8), Load(32768, 16), 61) < 7.2 * GIB
    attention = overhead_bytes(R1, DP16_EP16, Load(32768, 16), 61) - overhead_bytes(R1, Layout(2, 16), LOAD, 61)
    assert attention > 3e9, "a rank computes the keys and values of all heads"


def test_what_is_nested_counts() -> None:
    nested = {"dtype": "bfloat16", "text_config": {k: v for k, v in QWEN.items() if k != "torch_dtype"}}
    assert shape_of(nested) == shape_of(QWEN)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "config.json, num_attention_heads: the file has no num_attention_heads, and no default"),
        ({**QWEN, "torch_dtype": "int8"}, "torch_dtype: the precision 'int8' is not supported"),
        ({"torch_dtype": "bfloat16", "num_hidden_layers": 24}, "the file has no num_attention_heads"),
        ({**QWEN, "num_hidden_layers": True}, "num_hidden_layers: True is not a size"),
        ({**QWEN, "num_key_value_heads": 0}, "num_key_value_heads: 0 is not a size"),
        ({**DEEPSEEK, "model_type": "longcat_flash"}, "of 'longcat_flash' is not known"),
        ({**DEEPSEEK, "qk_rope_head_dim": None}, "qk_rope_head_dim: None is not a size"),
        ({**QWEN, "max_position_embeddings": None}, "max_position_embeddings: None is not a size"),
    ],
)
def test_what_does_not_say_its_shape_is_refused(config: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        shape_of(config)


def test_all_that_is_missing_is_reported_at_once() -> None:
    with pytest.raises(UserError) as refused:
        shape_of({**QWEN, "vocab_size": None, "hidden_size": "wide"})
    assert [each.where for each in refused.value.diagnostics] == [
        "config.json, hidden_size", "config.json, vocab_size",
    ]  # fmt: skip


def test_weights_of_an_unknown_sort_are_not_guessed() -> None:
    with pytest.raises(UserError, match="the weights of 'gemma' cannot be computed from its config.json"):
        computed_tensors(shape_of({**QWEN, "model_type": "gemma"}))


def test_sizes_survive_json() -> None:
    assert parse_sizes(json.loads(json.dumps(R1.as_data()))) == R1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"heads": 0}, "sizes.heads: 0 is not a size"),
        ({"heads": True}, "sizes.heads: True is not a size"),
        ({"layer_bytes": []}, "sizes.layer_bytes: () is not a size"),
        ({"whole_bytes": [1]}, "sizes.whole_bytes: '1 layers' is not a size"),
        ({"expert_bytes": [-1] * 28}, "sizes.expert_bytes: (-1"),
        ({"hidden": -1}, "sizes.hidden: -1 is not a size"),
        ({"more": 1}, "sizes.more: 1 is not a size"),
    ],
)
def test_what_is_no_size_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        parse_sizes({**B7.as_data(), **change})


@pytest.mark.parametrize(
    ("model", "kind", "count", "tensor_parallel"),
    [(B7, "h100", 8, 1), (B70, "h100", 8, 2), (B70, "h200", 8, 2), (R1, "h200", 8, 8), (B7, "t4", 4, 2)],
)
def test_published_models_take_the_fewest_gpus(model: Sizes, kind: str, count: int, tensor_parallel: int) -> None:
    layout = best_fit(model, gpus(kind, count), LOAD).layout
    assert layout == Layout(1, tensor_parallel)


@pytest.mark.parametrize(
    ("model", "kind", "count"), [(R1, "h100", 8), (R1, "h200", 4), (B70, "h100", 1), (B7, "t4", 1)]
)
def test_published_models_that_do_not_fit_are_refused(model: Sizes, kind: str, count: int) -> None:
    with pytest.raises(DoesNotFit, match="there is no room for the weights"):
        best_fit(model, gpus(kind, count), LOAD)


def test_a_mixture_of_experts_has_layouts_with_whole_experts_too() -> None:
    """The recipe for R1 on eight H200 divides attention, and gives each GPU whole experts."""
    found = [fit.layout for fit in fits(R1, gpus("h200"), LOAD) if fit.fits]
    assert found[0] == Layout(1, 8)
    assert Layout(1, 8, expert_parallel=True) in found
    assert found.index(Layout(1, 8, expert_parallel=True)) < found.index(Layout(1, 1, 1, 8, True))
    assert not any(layout.expert_parallel and layout.context_parallel > 1 for layout in found)
    assert not any(fit.layout.expert_parallel for fit in fits(B70, gpus("h200"), LOAD))


def test_over_two_hosts_stages_come_before_layers_that_need_the_network() -> None:
    found = [fit.layout for fit in fits(R1, gpus("h100", 8, 2), LOAD) if fit.fits]
    assert found[0] == TP8_PP2
    assert DP16_EP16 in found
    assert found.index(Layout(2, 16)) > found.index(TP8_PP2)
    assert all(layout.gpus == 16 for layout in found)


def test_one_host_that_suffices_is_enough() -> None:
    assert best_fit(R1, gpus("h200", 8, 2), LOAD).layout == Layout(1, 8)


def test_the_layouts_over_two_h100_hosts_have_room_as_computed_by_hand() -> None:
    """Weights and cache against a calculation by hand, which reserved 6.5 GB on each GPU for vLLM."""
    room = {fit.layout: fit for fit in fits(R1, gpus("h100", 8, 2), LOAD)}
    for layout, weights, tokens in (
        (TP8_PP2, 43.4e9, 768_000), (Layout(2, 16), 42.1e9, 397_000), (Layout(2, 8, 1, 2, True), 43.5e9, 377_000),
    ):  # fmt: skip
        assert max(stage.weights for stage in room[layout].stages) == pytest.approx(weights, rel=0.03)
        assert room[layout].tokens_per_rank == pytest.approx(tokens, rel=0.06)
    divided = replace(TP8_PP2, context_parallel=8)
    assert room[divided].tokens_per_rank == pytest.approx(6_100_000, rel=0.06)


def test_experts_in_blocks_of_fp8_are_not_cut() -> None:
    blocks = {**model_config("qwen3-235b-a22b"),
              "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}  # fmt: skip
    model = sizes(blocks, computed_tensors(shape_of(blocks)))  # 1536 are 12 blocks: not over 8 GPUs
    layouts = [fit.layout for fit in fits(model, gpus("h100"), LOAD, Wish(tensor_parallel=8))]
    assert not any(not layout.expert_parallel for layout in layouts)
    wish = Wish(tensor_parallel=8, expert_parallel=True)
    assert best_fit(model, gpus("h100"), LOAD, wish).layout == Layout(1, 8, expert_parallel=True)
    assert best_fit(MIXTURE, gpus("h100"), LOAD).layout == Layout(1, 8)


def test_the_arithmetic_is_reported() -> None:
    assert best_fit(R1, gpus("h200"), LOAD).text == (
        "673.2 GB of weights on 8 GPUs (tensor_parallel 8): each has 85.1 GB of them, 1.2 GB of cache (parallel 4, "
        "context_tokens 4096) and 6.5 GB beside, 92.8 GB in all, of 135.1 GB for vLLM (90 % of 139.8 GiB)"
    )
    with pytest.raises(DoesNotFit) as refused:
        best_fit(R1, gpus("h100"), LOAD)
    assert str(refused.value) == (
        "vLLM: the model does not fit: 673.2 GB of weights on 8 GPUs (tensor_parallel 8): each has 85.1 GB of them, "
        "1.2 GB of cache (parallel 4, context_tokens 4096) and 6.5 GB beside, 92.8 GB in all, of 76.4 GB for vLLM "
        "(90 % of 79.1 GiB); weights and cache that fit the memory of each GPU; there is no room for the weights. "
        "Serve it on 2 such hosts, with tensor_parallel 8, pipeline_parallel 2, or serve it on GPUs of 96 GiB."
    )
    assert refused.value.exit_status == 2


def test_what_the_model_does_not_take_is_refused() -> None:
    message = "context_tokens 140000 is more than the model takes; at most 131072. Set context_tokens to 131072"
    with pytest.raises(DoesNotFit, match=message):
        best_fit(B7, gpus("h100"), Load(140_000, 1))


@pytest.mark.parametrize(("tensor_parallel", "count"), [(3, 8), (8, 4), (16, 16)])
def test_a_division_that_cannot_be_is_refused(tensor_parallel: int, count: int) -> None:
    message = f"by tensor_parallel {tensor_parallel}; .*Set tensor_parallel to one of 1, 2, 4"
    with pytest.raises(DoesNotFit, match=message):
        best_fit(B7, gpus("h100", count), LOAD, Wish(tensor_parallel))


def test_a_division_that_was_asked_for_is_held_to() -> None:
    assert best_fit(B7, gpus("h100"), LOAD, Wish(4)).layout == Layout(1, 4)
    with pytest.raises(DoesNotFit, match=r"Set tensor_parallel 2, or .*serve it on GPUs of 15\d GiB\.$"):
        best_fit(B70, gpus("h100"), LOAD, Wish(1))


def test_stages_within_a_host_are_taken_only_when_they_are_declared() -> None:
    assert best_fit(B70, gpus("h100"), LOAD, Wish(2, 2)).layout == Layout(1, 2, 2)
    assert all(fit.layout.pipeline_parallel == 1 for fit in fits(B70, gpus("h100"), LOAD))


LARGE = st.builds(
    lambda weights, layers, parts, repeats, latent: replace(
        B7,
        layer_bytes=(weights // layers,) * layers,
        whole_bytes=(0,) * layers,
        expert_bytes=(0,) * layers,
        cache_bytes_per_token=layers * 256 * (1 if latent else parts),
        heads=parts * repeats,
        cache_parts=1 if latent else parts,
        layer_parts=0,
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
    "per_host": st.integers(1, 16),
    "context": st.integers(1, 131072),
    "parallel": st.integers(1, 256),
}


@settings(deadline=None, max_examples=60)
@given(**PLAN, more=st.integers(0, 64 * GIB))
def test_what_fits_still_fits_with_more(
    model: Sizes, memory: int, per_host: int, context: int, parallel: int, more: int
) -> None:
    try:
        found = best_fit(model, Gpus(memory, per_host), Load(context, parallel))
    except DoesNotFit:
        assume(False)
    larger = best_fit(model, Gpus(memory + more, per_host), Load(context, parallel))
    assert larger.layout.gpus <= found.layout.gpus <= per_host
    assert model.heads % found.layout.tensor_parallel == 0
    fewer = Load(max(1, context - 1), max(1, parallel - 1))
    assert best_fit(model, Gpus(memory, per_host), fewer).layout.gpus <= found.layout.gpus


@settings(deadline=None, max_examples=60)
@given(**PLAN)
def test_what_is_proposed_fits(model: Sizes, memory: int, per_host: int, context: int, parallel: int) -> None:
    here, load = Gpus(memory, per_host), Load(context, parallel)
    try:
        best_fit(model, here, load)
    except DoesNotFit as refused:
        message = refused.diagnostic.help
    else:
        assume(False)
    both = re.search(r"et parallel to 1 and context_tokens to (\d+)", message)
    if both:
        best_fit(model, here, replace(load, parallel=1, context_tokens=int(both[1])))
    for fewer in re.findall(r"et parallel to (\d+)", message if not both else ""):
        assert int(fewer) < parallel
        best_fit(model, here, replace(load, parallel=int(fewer)))
    for shorter in re.findall(r"et context_tokens to (\d+)", message):
        assert int(shorter) < context
        best_fit(model, here, replace(load, context_tokens=int(shorter)))
    if "kv_cache_dtype" in message:
        best_fit(model, here, replace(load, cache_dtype="fp8"))
    for hosts, layout in re.findall(r"on (\d+) such hosts, with (.*?)(?:, or|$)", message):
        fit = best_fit(model, replace(here, hosts=int(hosts)), load)
        assert str(fit.layout) == layout
    (large,) = re.findall(r"on GPUs of (\d+) GiB", message)
    assert int(large) * GIB > memory
    best_fit(model, replace(here, memory_bytes=int(large) * GIB), load)
