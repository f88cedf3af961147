"""Language models in fewer bits: the matrices that are chosen, what transformers loads again, and the gate.

What vLLM answers with them is shown by acceptance.
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.support.training_runs import config
from workloads.errors import UserError
from workloads.evaluation.data import read
from workloads.export.__main__ import export
from workloads.export.hugging_face import byte_tokenizer
from workloads.output_directory import OutputDirectory
from workloads.quantize.language_model import measure
from workloads.quantize.language_model.__main__ import main
from workloads.quantize.language_model.formats import FORMATS
from workloads.quantize.language_model.matrices import Multiples, TensorHead, choose_matrices, fused_experts
from workloads.quantize.language_model.measure import ModelMeter, windows
from workloads.quantize.language_model.run import QuantizationResult, quantize
from workloads.serving.exported import EXPORT
from workloads.serving.vllm import publish_vllm
from workloads.training.run import train
from workloads.training.tokenizer import load_tokenizer

Quantize = Callable[..., QuantizationResult]
TEXT = "The harbour has nine racks, and each of them has a number of its own.\n" * 3


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a Llama with random weights in bf16, on bytes."""
    directory = tmp_path_factory.mktemp("models") / "llama"
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=256, hidden_size=256, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    LlamaForCausalLM(shape).to(torch.bfloat16).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a DeepSeek-V3 with random weights in fp32: latent attention, a dense layer, experts."""
    directory = tmp_path_factory.mktemp("models") / "deepseek"
    torch.manual_seed(0)
    shape = DeepseekV3Config(
        vocab_size=256, hidden_size=256, intermediate_size=256, moe_intermediate_size=128, num_hidden_layers=2,
        first_k_dense_replace=1, num_attention_heads=4, num_key_value_heads=4, n_shared_experts=1, n_routed_experts=4,
        num_experts_per_tok=2, n_group=2, topk_group=1, kv_lora_rank=128, q_lora_rank=128, qk_rope_head_dim=64,
        qk_nope_head_dim=64, v_head_dim=64, max_position_embeddings=128,
    )  # fmt: skip
    DeepseekV3ForCausalLM(shape).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


class Meter:
    """A meter with the figures that a test chooses."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)

    def measure(self, directory: Path) -> Any:
        result = self.results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return [{"data": "text.jsonl", "kind": "texts", "sha256": "a", "rows": 1, "bits_per_byte": result}]


@pytest.fixture
def quantized(tmp_path: Path) -> Quantize:
    def call(model: Path, to: str, meter: Any = None, may_lose: float = 0.01) -> QuantizationResult:
        unmeasured = None if meter else "a test"
        output = OutputDirectory(tmp_path / "out", EXPORT, replace=True, report_suffix=".report.json")
        return quantize(model, to, output, meter, may_lose, unmeasured, lambda line: None)

    return call


def tensors_in(directory: Path) -> dict[str, torch.Tensor]:
    return {name: each for file in directory.glob("*.safetensors") for name, each in load_file(file).items()}


def half_a_step(weight: torch.Tensor, to: str) -> torch.Tensor:
    """Return the largest error that rounding may make of each value of *weight*, with the tolerance of bf16 scales."""
    rows, columns = weight.shape
    magnitudes = weight.float().abs()
    if to == "fp8":  # 3 bits of fraction, and steps of 2**-9 for the smallest values
        largest = magnitudes.reshape(rows // 128, 128, columns // 128, 128).amax((1, 3), keepdim=True)
        smallest = (largest / 448 / 2**10).expand(-1, 128, -1, 128).reshape(rows, columns)
        return torch.maximum(magnitudes / 16, smallest) * 1.01 + magnitudes / 256
    group = columns if to == "int8" else 128
    largest = magnitudes.reshape(rows, columns // group, group).amax(-1, keepdim=True)
    step = (largest / (127.5 if to == "int8" else 7.5)).expand(-1, -1, group).reshape(rows, columns)
    # the largest value itself is half a step beyond the last number, and bf16 has a rounding of 2**-9
    return step * 0.51 + magnitudes / 100


@pytest.mark.parametrize("to", ["int8", "int4", "fp8"])
@pytest.mark.parametrize("name", ["llama", "deepseek"])
def test_transformers_loads_each_weight_within_half_a_step(
    name: str, to: str, tmp_path: Path, request: pytest.FixtureRequest, quantized: Quantize
) -> None:
    model: Path = request.getfixturevalue(name)
    result = quantized(model, to)
    before, after = (dict(measure.load(path).named_parameters()) for path in (model, tmp_path / "out"))
    assert before.keys() == after.keys()
    changed = set()
    for key, weight in before.items():
        if torch.equal(weight, after[key]):
            continue
        changed.add(key)
        for own, rounded in zip(matrices(weight), matrices(after[key]), strict=True):
            assert ((own.float() - rounded.float()).abs() <= half_a_step(own, to)).all(), key
    kept = {"lm_head", "model.embed_tokens", "model.norm", "model.layers.1.mlp.gate", "model.layers.0.input_layernorm"}
    assert not {key for key in changed if key.removesuffix(".weight") in kept}
    expected = {"int8": 0.008, "int4": 0.12, "fp8": 0.028}[to]
    assert expected * 0.7 < result.error < expected
    assert result.weight_bytes < result.weight_bytes_before


def matrices(weight: torch.Tensor) -> list[torch.Tensor]:
    """Return the matrices of *weight*: transformers joins those of experts."""
    return list(weight) if weight.dim() == 3 else [weight]


def test_fp8_has_the_form_of_deepseeks_own_checkpoint(deepseek: Path, tmp_path: Path, quantized: Quantize) -> None:
    result = quantized(deepseek, "fp8")
    entry = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    written = tensors_in(tmp_path / "out")
    expert = "model.layers.1.mlp.experts.3.gate_proj"

    assert {key: entry[key] for key in ("quant_method", "fmt", "activation_scheme", "weight_block_size")} == {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
    }  # fmt: skip
    assert written[f"{expert}.weight"].dtype == torch.float8_e4m3fn
    assert written[f"{expert}.weight_scale_inv"].dtype == torch.float32
    assert written[f"{expert}.weight_scale_inv"].shape == (1, 2)
    # the latent has 128 + 64 rows, and vLLM joins it with the queries' matrix
    unfit = [f"model.layers.{n}.self_attn.{each}" for n in (0, 1) for each in ("kv_a_proj_with_mqa", "q_a_proj")]
    assert list(result.unfit) == unfit
    assert set(unfit) | {"lm_head", "model.layers.1.mlp.gate"} < set(entry["modules_to_not_convert"])


def test_integers_are_packed_with_scales_of_the_weights_type(llama: Path, tmp_path: Path, quantized: Quantize) -> None:
    quantized(llama, "int4")
    entry = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    written = tensors_in(tmp_path / "out")
    down = "model.layers.0.mlp.down_proj"

    assert (entry["quant_method"], entry["format"], entry["quantization_status"]) == (
        "compressed-tensors", "pack-quantized", "compressed",
    )  # fmt: skip
    assert entry["config_groups"]["group_0"]["weights"]["group_size"] == 128
    assert written[f"{down}.weight_packed"].shape == (256, 384 * 4 // 32)
    assert (written[f"{down}.weight_scale"].dtype, written[f"{down}.weight_scale"].shape) == (torch.bfloat16, (256, 3))
    assert f"{down}.weight" not in written
    lineage = publish_vllm(tmp_path / "out", "llama", None, tmp_path / "published").lineage
    assert (lineage["quantization"]["format"], "training" in lineage) == ("int4", False)


def test_several_files_have_the_tensors_of_one(llama: Path, tmp_path: Path, quantized: Quantize) -> None:
    quantized(llama, "int8")
    whole = tensors_in(tmp_path / "out")
    LlamaForCausalLM.from_pretrained(llama, dtype="auto").save_pretrained(tmp_path / "parts", max_shard_size="500KB")
    quantized(tmp_path / "parts", "int8")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    parts = tensors_in(tmp_path / "out")

    assert len(set(index["weight_map"].values())) > 2
    assert whole.keys() == parts.keys() == index["weight_map"].keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / "out" / file, "pt") as opened:
            assert name in opened.keys()  # noqa: SIM118 - not a mapping
    assert index["metadata"]["total_size"] == sum(each.nbytes for each in parts.values())


def test_bits_per_byte_are_those_of_the_models_loss(llama: Path, tmp_path: Path) -> None:
    meter = ModelMeter([texts(tmp_path, TEXT)], [], context_tokens=1024, device="cpu")
    [result] = meter.measure(llama)
    tokens = torch.tensor([[0, *TEXT.encode()]])
    with torch.no_grad():
        loss = LlamaForCausalLM.from_pretrained(llama, dtype="auto")(input_ids=tokens, labels=tokens).loss

    assert result["bits_per_byte"] == pytest.approx(float(loss) / math.log(2), rel=1e-3)
    [in_windows] = ModelMeter(meter.files, [], context_tokens=16, device="cpu").measure(llama)
    assert in_windows["bits_per_byte"] != result["bits_per_byte"]


def test_the_most_likely_choice_is_the_answer(llama: Path, tmp_path: Path) -> None:
    rows = [{"question": "Where?", "choices": [" a", " b", " c"], "answer": answer} for answer in range(3)]
    path = tmp_path / "exam.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    meter = ModelMeter([read("choices", path)], [], context_tokens=64, device="cpu")

    assert meter.measure(llama)[0]["accuracy"] == pytest.approx(1 / 3), "the same question has one most likely choice"


def test_a_choice_follows_its_question_alone(llama: Path) -> None:
    """
    Without a token that begins texts, as in `python -m workloads.evaluation`.
    """
    question, choice = "Where is it?", " at sea"
    model, tokenizer = measure.load(llama), load_tokenizer(str(llama))
    tokens = list((question + choice).encode())
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)
        found = ModelMeter([], [], context_tokens=64, device="cpu")._choice(model, tokenizer, question, choice)
    expected = sum(float(logits[n - 1, tokens[n]]) for n in range(len(question), len(tokens)))
    assert found == pytest.approx(expected, rel=1e-4)


def texts(directory: Path, *rows: str) -> Any:
    path = directory / "text.jsonl"
    path.write_text("".join(f"{json.dumps({'text': row})}\n" for row in rows))
    return read("texts", path)


def test_each_token_of_a_text_is_predicted_once() -> None:
    found = list(windows([1, 2, 3, 4, 5], first=0, size=2))
    assert found == [([0], [1, 2]), ([2], [3, 4]), ([4], [5])]
    assert list(windows([], first=0, size=2)) == []


class TestGate:
    def test_a_model_that_loses_too_much_is_not_written(self, llama: Path, tmp_path: Path, quantized: Quantize) -> None:
        result = quantized(llama, "int4", Meter(2.0, 2.05), may_lose=0.02)
        assert result.shortfalls == ("2.0500 bits per byte on text.jsonl, before 2.0000",)
        assert [each.name for each in tmp_path.iterdir()] == ["out.report.json"]
        assert json.loads(result.path.read_text())["gate"]["passed"] is False

    def test_a_model_that_loses_less_is_written(self, llama: Path, tmp_path: Path, quantized: Quantize) -> None:
        assert quantized(llama, "int4", Meter(2.0, 2.03), may_lose=0.02).shortfalls == ()
        assert (tmp_path / "out" / "config.json").is_file()

    def test_no_number_is_no_figure(self, llama: Path, quantized: Quantize) -> None:
        assert quantized(llama, "int4", Meter(2.0, math.nan)).shortfalls

    def test_an_interruption_leaves_nothing(self, llama: Path, tmp_path: Path, quantized: Quantize) -> None:
        with pytest.raises(KeyboardInterrupt):
            quantized(llama, "int4", Meter(2.0, KeyboardInterrupt()))
        assert list(tmp_path.iterdir()) == []

    def test_the_former_model_stays_when_a_new_one_is_refused(
        self, llama: Path, tmp_path: Path, quantized: Quantize
    ) -> None:
        quantized(llama, "int8")
        before = (tmp_path / "out" / "lineage.json").read_bytes()
        quantized(llama, "int4", Meter(2.0, 3.0))
        assert (tmp_path / "out" / "lineage.json").read_bytes() == before


def test_a_trained_model_is_judged_by_its_held_out_data_and_names_its_origin(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 20)
    model = {"kind": "hugging-face", "path": str(llama), "lora": {"rank": 4}}
    text = {"kind": "text", "path": str(tmp_path / "text.txt"), "sequence_length": 32, "held_out": 0.2}
    changes = ("steps=2", "global_batch=4", "accumulate=1", "saving.every_steps=2", "device=cpu")
    train(config("lora", f"model={json.dumps(model)}", f"data={json.dumps(text)}", *changes), tmp_path / "run", {})
    export(tmp_path / "run", tmp_path / "export", merge_adapters=True, dtype="bf16")
    argv = [str(tmp_path / "export"), "--to", "int8", "--training", str(tmp_path / "run"), "--may-lose", "0.5"]
    capsys.readouterr()
    assert main([*argv, "--out", str(tmp_path / "int8"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    [before], [after] = report["gate"]["before"], report["gate"]["after"]

    assert (before["kind"], before["data"], before["rows"] > 100) == ("answers", text["path"], True)
    assert before["loss"] != after["loss"] and after["loss"] == pytest.approx(before["loss"], rel=0.02)
    lineage = publish_vllm(tmp_path / "int8", "harbour", None, tmp_path / "published").lineage
    assert (lineage["training"]["run"], lineage["training"]["dtype"]) == ("lora", "int8")
    assert lineage["quantization"]["gate"]["passed"] is True
    exported = json.loads((tmp_path / "export" / "lineage.json").read_text())
    source = lineage["quantization"]["source"]["files"]
    assert source["model.safetensors"] == exported["files"]["model.safetensors"]["sha256"]


class TestChoice:
    MULTIPLES = Multiples(rows=64, columns=128)

    def chosen(self, **shapes: tuple[int, ...]) -> tuple[set[str], tuple[str, ...]]:
        heads = {f"model.layers.0.{name.replace('__', '.')}.weight": TensorHead(shape, "BF16")
                 for name, shape in shapes.items()}  # fmt: skip
        choice = choose_matrices(heads, self.MULTIPLES)
        short = {name.removeprefix("model.layers.0.").removesuffix(".weight") for name in choice.quantized}
        return short, tuple(name.removeprefix("model.layers.0.") for name in choice.unfit)

    def test_what_vllm_joins_stays_together(self) -> None:
        fits, odd = (128, 128), (96, 128)
        assert self.chosen(attn__q_proj=fits, attn__k_proj=odd, attn__v_proj=fits, attn__o_proj=fits) == (
            {"attn.o_proj"}, ("attn.k_proj", "attn.q_proj", "attn.v_proj"),
        )  # fmt: skip

    def test_all_experts_of_a_layer_stay_together(self) -> None:
        names = {f"mlp__experts__{n}__{each}": (128, 128) for n in (0, 1) for each in ("up_proj", "down_proj")}
        assert len(self.chosen(**names)[0]) == 4
        assert self.chosen(**{**names, "mlp__experts__1__down_proj": (128, 64)})[0] == set()

    def test_routers_norms_and_others_stay(self) -> None:
        fits = (128, 128)
        routers = ("mlp__gate", "mlp__gate__wg", "mlp__router", "mlp__router__classifier", "block_sparse_moe__gate")
        shapes = dict.fromkeys((*routers, "input_layernorm", "eh_proj", "shared_head__head", "embed_tokens"), fits)
        matrices = dict.fromkeys(("mlp__up_proj", "mlp__gate_proj"), fits)
        assert self.chosen(**shapes, **matrices, attn__indexer__wk=fits) == ({"mlp.up_proj", "mlp.gate_proj"}, ())
        outside = ("lm_head", "vision_tower.layers.0.up_proj")
        choice = choose_matrices({f"{name}.weight": TensorHead(fits, "BF16") for name in outside}, self.MULTIPLES)
        assert (choice.quantized, choice.kept) == (frozenset(), outside)

    def test_experts_in_one_tensor_are_found(self) -> None:
        heads = {"model.layers.0.mlp.experts.gate_up_proj": TensorHead((4, 128, 128), "BF16")}
        assert fused_experts(heads) == ["model.layers.0.mlp.experts.gate_up_proj"]

    def test_each_format_has_multiples_of_its_own_scales(self) -> None:
        assert FORMATS["int4"].multiples.fits((64, 256)) and not FORMATS["int4"].multiples.fits((64, 192))
        assert FORMATS["fp8"].multiples.fits((256, 128)) and not FORMATS["fp8"].multiples.fits((192, 128))


class TestRefusal:
    def refused(self, capsys: pytest.CaptureFixture[str], *argv: str | Path, status: int = 2) -> str:
        assert main([str(each) for each in argv]) == status
        return " ".join(capsys.readouterr().err.split())

    def test_wrong_options_are_reported_together(
        self, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        argv = (llama, "--to", "int4", "--out", tmp_path / "out", "--may-lose", "-1", "--context-tokens", "1")
        text = self.refused(capsys, *argv)
        assert "the gate has no data" in text and "1 is too few" in text and "-1.0 is no share" in text
        text = self.refused(capsys, *argv, "--unmeasured", "too large", "--training", tmp_path)
        assert "the gate has data, and is to be left out" in text

    def test_a_model_that_is_quantised_already(self, llama: Path, tmp_path: Path, quantized: Quantize) -> None:
        quantized(llama, "fp8")
        (tmp_path / "out").rename(tmp_path / "fp8")
        with pytest.raises(UserError, match="the model is quantised already, by fp8"):
            quantized(tmp_path / "fp8", "int4")

    def test_a_weight_that_is_not_finite(self, tmp_path: Path, quantized: Quantize) -> None:
        weight = torch.ones(128, 128)
        weight[3, 5] = math.inf
        with pytest.raises(UserError, match=r"model.layers.0.up_proj.weight has values that are not finite"):
            quantized(saved(tmp_path, {"model.layers.0.up_proj.weight": weight}), "int8")
        assert not (tmp_path / ".out.partial").exists()

    def test_a_model_without_a_matrix_that_fits(self, tmp_path: Path, quantized: Quantize) -> None:
        model = saved(tmp_path, {"model.layers.0.up_proj.weight": torch.ones(64, 64)})
        with pytest.raises(UserError, match="no matrix of a decoder layer fits int4; matrices with a multiple of 64 r"):
            quantized(model, "int4")

    def test_a_directory_of_something_else(self, llama: Path, tmp_path: Path, quantized: Quantize) -> None:
        (tmp_path / "out").mkdir()
        with pytest.raises(UserError, match="it exists, and is not an export or a quantised model"):
            quantized(llama, "int8")

    def test_a_file_system_without_room(
        self, llama: Path, tmp_path: Path, quantized: Quantize, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        size = quantized(llama, "int4").weight_bytes

        def disk(free: int) -> None:
            monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))

        disk(int(size * 0.99))
        with pytest.raises(UserError, match=r"--out: 0.0 GB are free in .*; 0.0 GB for the result"):
            quantized(llama, "int4")
        disk(int(size * 1.1))
        quantized(llama, "int4")

    def test_files_that_lack_a_weight(self, llama: Path, tmp_path: Path) -> None:
        model = saved(tmp_path, {}, (llama / "config.json").read_text())
        whole = load_file(llama / "model.safetensors")
        del whole["model.layers.0.mlp.up_proj.weight"]
        save_file(whole, model / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match=r"the model and its files differ in model.layers.0.mlp.up_proj.weight"):
            measure.load(model)

    def test_a_directory_that_is_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"the directory has no readable lineage.json"):
            measure.held_out_sets(tmp_path)


def saved(directory: Path, tensors: dict[str, torch.Tensor], configuration: str = "{}") -> Path:
    """Return the directory of a model with these *tensors*."""
    (directory / "model").mkdir()
    (directory / "model" / "config.json").write_text(configuration)
    save_file(tensors, directory / "model" / "model.safetensors", metadata={"format": "pt"})
    return directory / "model"
