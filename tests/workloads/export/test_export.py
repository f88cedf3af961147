"""A trained language model becomes a directory that other programs load, with the same answers and its origin."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.models import chat, smollm2
from tests.support.sharded_memory import make_model
from tests.support.training_runs import config, weights
from workloads.checkpoint import disk
from workloads.errors import UserError
from workloads.export import gguf, hugging_face, register
from workloads.export.__main__ import export, main
from workloads.export.trained import ExportDiffers, load, logits
from workloads.quantize.language_model.measure import ModelMeter
from workloads.serving import model as model_directory
from workloads.serving.__main__ import main as serve_main
from workloads.serving.gguf import main as publish_main
from workloads.serving.gguf import publish_gguf
from workloads.serving.vllm import publish_vllm
from workloads.training import loop, multi_token
from workloads.training.divergence import DivergenceError
from workloads.training.run import train

QUICK = (
    "steps=4", "global_batch=4", "accumulate=1", "report_every_steps=4", "saving.every_steps=2",
    "schedule.kind=constant", "optimizer.learning_rate=0.05", "device=cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a small base model, with a text of bytes."""
    directory = tmp_path_factory.mktemp("base")
    make_model(directory, layers=2)
    return directory


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that trained adapters for the base model."""
    out = tmp_path_factory.mktemp("adapters")
    model = {"kind": "hugging-face", "path": str(base), "lora": {"rank": 4}}
    text = {"kind": "text", "path": str(base / "text.txt"), "sequence_length": 16}
    train(config("lora", f"model={json.dumps(model)}", f"data={json.dumps(text)}", *QUICK), out, {})
    return out


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that trained a mixture of experts from random weights, on bytes."""
    out = tmp_path_factory.mktemp("experts")
    train(config("deepseek-v3-tiny", "data.sequence_length=16", "data.bytes_at_most=5000", *QUICK), out, {})
    return out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small filesystem")
@pytest.mark.parametrize("to", ["huggingface", "gguf"])
def test_a_full_drive_is_named_and_nothing_is_left_there(
    experts: Path, tmp_path: Path, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path / "small"], check=True)
    try:
        status = main([str(experts), "--to", to, "--dtype", "bf16", "--out", str(tmp_path / "small/model")])
        left = [*(tmp_path / "small").iterdir()]
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)

    assert (status, left) == (2, [])
    assert "small/model: its drive has no room for the export: 0." in capsys.readouterr().err


def test_a_mixture_of_experts_is_exported_with_its_biases_and_a_tokenizer_of_bytes(
    experts: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    export(experts, tmp_path / "model", merge_adapters=False, dtype="bf16")
    saved = load_file(tmp_path / "model" / "model.safetensors")
    bias = "model.layers.1.mlp.gate.e_score_correction_bias"
    assert torch.equal(saved[bias], weights(experts)[f"model.{bias}"])
    assert saved[bias].any() and saved[bias].dtype == torch.float32
    assert saved["model.layers.2.mlp.experts.7.up_proj.weight"].dtype == torch.bfloat16
    # vLLM reads the choice of experts from there, and transformers has it built in
    routing = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (routing["topk_method"], routing["scoring_func"]) == ("noaux_tc", "sigmoid")
    text = "Größe – 1\n"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer(text)["input_ids"] == list(text.encode())
    assert tokenizer.decode(list(text.encode())) == text


def test_a_module_of_multi_token_prediction_is_exported_as_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The layer after the last has the names of DeepSeek-V3's checkpoints, and copies of embedding and head.
    """
    from safetensors.torch import load_file

    short = ("data.sequence_length=16", "data.bytes_at_most=5000", "model.mtp={}")
    train(config("deepseek-v3-tiny", *short, *QUICK), tmp_path / "run", {})
    lineage = export(tmp_path / "run", tmp_path / "model", dtype="bf16")
    assert "equal drafts of multi-token prediction" in lineage["proof"]
    assert json.loads((tmp_path / "model" / "config.json").read_text())["num_nextn_predict_layers"] == 1
    saved = load_file(tmp_path / "model" / "model.safetensors")
    names = {name.removeprefix("model.layers.3.") for name in saved if name.startswith("model.layers.3.")}
    assert names >= {
        "enorm.weight", "hnorm.weight", "eh_proj.weight", "shared_head.norm.weight", "shared_head.head.weight",
        "embed_tokens.weight", "input_layernorm.weight", "self_attn.q_a_proj.weight", "mlp.experts.7.up_proj.weight",
    }  # fmt: skip
    assert not any("mtp_block" in name for name in names)
    assert torch.equal(saved["model.layers.3.shared_head.head.weight"], saved["lm_head.weight"])

    right = multi_token.checkpoint_state

    def exchanged(model: Any) -> dict[str, torch.Tensor]:
        state = right(model)
        place = "model.layers.3.eh_proj.weight"
        return state | {place: state[place].roll(state[place].shape[1] // 2, 1).contiguous()}

    monkeypatch.setattr(multi_token, "checkpoint_state", exchanged)
    with pytest.raises(ExportDiffers, match="is not the trained model"):
        export(tmp_path / "run", tmp_path / "wrong")


def test_without_multi_token_prediction_no_module_is_promised(experts: Path, tmp_path: Path) -> None:
    export(experts, tmp_path / "model")
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (written["num_nextn_predict_layers"], written["use_cache"]) == (0, True)


def test_llama_cpp_gets_the_model_without_its_module(tmp_path: Path) -> None:
    short = ("data.sequence_length=16", "data.bytes_at_most=5000", "model.mtp={}")
    train(config("deepseek-v3-tiny", *short, *QUICK), tmp_path / "run", {})
    assert "llama.cpp loads it" in export(tmp_path / "run", tmp_path / "gguf", to="gguf")["proof"]


def test_merged_adapters_of_a_base_in_4_bits_answer_like_the_trained_model(base: Path, tmp_path: Path) -> None:
    model = {"kind": "hugging-face", "path": str(base), "lora": {"rank": 4, "four_bit": True}}
    text = {"kind": "text", "path": str(base / "text.txt"), "sequence_length": 16}
    train(config("lora", f"model={json.dumps(model)}", f"data={json.dumps(text)}", *QUICK), tmp_path / "run", {})
    trained = load(tmp_path / "run").model
    export(tmp_path / "run", tmp_path / "model", merge_adapters=True)
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(logits(loaded, 256), logits(trained.model, 256), rtol=1e-4, atol=1e-5)


def test_merged_adapters_answer_like_the_trained_model(adapters: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    export(adapters, tmp_path / "model", merge_adapters=True, dtype="fp32")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    trained = load(adapters).model.model
    torch.testing.assert_close(logits(merged, 256), logits(trained, 256))
    plain = AutoModelForCausalLM.from_pretrained(load(adapters).config.model.path).eval()  # type: ignore[union-attr]
    assert not torch.allclose(logits(plain, 256), logits(trained, 256))


def test_an_export_names_what_it_was_made_from(adapters: Path, base: Path, tmp_path: Path) -> None:
    export(adapters, tmp_path / "model", merge_adapters=True, dtype="fp32")
    lineage = json.loads((tmp_path / "model" / "lineage.json").read_text())
    final = adapters / "checkpoints" / "step-0000000004" / "manifest.json"
    assert lineage["checkpoint"] == disk.sha256(final)
    assert lineage["base"]["files"]["model.safetensors"] == disk.sha256(base / "model.safetensors")
    assert lineage["adapters"] == "merged"
    assert lineage["proof"] == "transformers loads it with equal logits for 64 positions"
    files = {each.name for each in (tmp_path / "model").iterdir()} - {"lineage.json"}
    assert {name: entry["sha256"] for name, entry in lineage["files"].items()} == {
        name: disk.sha256(tmp_path / "model" / name) for name in files
    }


def test_an_export_in_the_place_of_another_is_named(
    adapters: Path, experts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert main([str(adapters), "--to", "huggingface", "--out", str(out)]) == 0
    assert "it replaces" not in capsys.readouterr().out
    step = json.loads((out / "lineage.json").read_text())["step"]
    (out / "note").touch()
    assert main([str(experts), "--to", "huggingface", "--out", str(out)]) == 2
    assert f"{out}: it has an export of lora, step {step}" in capsys.readouterr().err
    assert (out / "adapter_config.json").is_file()
    assert main([str(experts), "--to", "huggingface", "--out", str(out), "--replace"]) == 0
    assert capsys.readouterr().out.endswith(f"\nit replaces an export of lora, step {step}\n")
    assert not (out / "adapter_config.json").exists() and not (out / "note").exists()


def test_adapters_alone_are_exported_for_their_base(
    adapters: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(adapters), "--to", "huggingface", "--out", str(tmp_path / "adapters")]) == 0
    assert "the written adapters are those of the checkpoint" in capsys.readouterr().out
    written = json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(base)


@pytest.mark.parametrize(("run", "merge_adapters"), [("experts", False), ("adapters", True)])
def test_llama_cpp_answers_like_the_trained_model(
    run: str, merge_adapters: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """
    Latent attention with a mixture of experts, and Llama's shape with merged adapters.
    """
    lineage = export(request.getfixturevalue(run), tmp_path / "model", merge_adapters, to="gguf")
    assert {each.name for each in (tmp_path / "model").iterdir()} == {"model.gguf", "lineage.json"}
    found = re.search(r"differ by at most (\S+); 6 texts have as many tokens$", lineage["proof"])
    assert found and float(found[1]) < 0.01


def test_the_chat_template_of_tokenizer_config_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The place where DeepSeek's models have it. Without it, llama.cpp takes a template of its own.
    """
    base = tmp_path / "base"
    chat.write_base(base)
    template, settings = base / "chat_template.jinja", base / "tokenizer_config.json"
    text = template.read_text()
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": text}))
    template.unlink()
    (base / "text.txt").write_text("a hospital has wards and beds; " * 8)
    model = {"kind": "hugging-face", "path": str(base)}
    data = {"kind": "text", "path": str(base / "text.txt"), "tokenizer": str(base), "sequence_length": 16}
    train(config("lora", f"model={json.dumps(model)}", f"data={json.dumps(data)}", *QUICK), tmp_path / "run", {})
    lineage = export(tmp_path / "run", tmp_path / "model", to="gguf")
    assert lineage["proof"].endswith("6 texts and a chat prompt have as many tokens")
    assert text.encode() in (tmp_path / "model" / "model.gguf").read_bytes()

    right = gguf._tokenizer
    monkeypatch.setattr(gguf, "_tokenizer", lambda *of: {k: v for k, v in right(*of).items() if k != "chat_template"})
    with pytest.raises(ExportDiffers, match=r"a chat prompt in llama.cpp has \d+, not \d+ tokens"):
        export(tmp_path / "run", tmp_path / "wrong", to="gguf")


@pytest.mark.parametrize(("run", "merge_adapters"), [("experts", False), ("adapters", True)])
def test_llama_cpp_answers_in_8_bits_like_the_rounded_model(
    run: str, merge_adapters: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    trained = request.getfixturevalue(run)
    sizes = {}
    for dtype in ("bf16", "q8_0"):
        lineage = export(trained, tmp_path / dtype, merge_adapters, dtype, to="gguf")
        sizes[dtype] = lineage["files"]["model.gguf"]["bytes"]
    assert lineage["dtype"] == "q8_0"
    assert sizes["q8_0"] < 0.75 * sizes["bf16"]
    gate = lineage["quantization"]["gate"]
    assert (gate["passed"], gate["after"]) == (False, []), "these runs hold no data out"


def test_a_next_token_that_is_a_part_of_a_character_is_compared() -> None:
    """
    Before, a right file was refused if its likeliest next token was no whole character.
    """
    tokens = [18645, 250, 48392, 138] * 4  # two Chinese characters, four times
    assert gguf.largest_difference(gguf.open_server(smollm2.gguf()), torch.zeros(49152), tokens) < 20


def test_8_bits_that_lose_too_much_are_refused(
    adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = iter((0.9, 0.87))

    def measured(meter: object, model: object) -> list[dict[str, object]]:
        return [{"data": "text", "kind": "answers", "sha256": "a", "rows": 9, "accuracy": next(figures)}]

    monkeypatch.setattr(ModelMeter, "measure_model", measured)
    argv = ["--to", "gguf", "--merge-adapters", "--dtype", "q8_0", "--may-lose", "0.02", "--out", f"{tmp_path}/model"]
    assert main([str(adapters), *argv]) == 1
    assert "the rounded model falls short: accuracy 0.8700 on text, before 0.9000" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_8_bits_of_llama_cpp_are_refused_for_hugging_face(adapters: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--dtype: q8_0 is a format of GGUF files; fp32, bf16 or fp16 for Hugging Face"):
        export(adapters, tmp_path / "model", merge_adapters=True, dtype="q8_0")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("to", ["huggingface", "gguf"])
def test_a_published_export_names_its_training(adapters: Path, tmp_path: Path, to: str) -> None:
    export(adapters, tmp_path / "export", merge_adapters=True, dtype="bf16", to=to)
    if to == "gguf":
        model = publish_gguf(tmp_path / "export" / "model.gguf", "lora", None, tmp_path / "model")
    else:
        model = publish_vllm(tmp_path / "export", "lora", None, tmp_path / "model")
    training = model.lineage["training"]
    assert training["checkpoint"] == disk.sha256(adapters / "checkpoints" / "step-0000000004" / "manifest.json")
    assert training["config"] == json.loads((adapters / "config.json").read_text())
    assert (training["adapters"], training["dtype"]) == ("merged", "bf16")
    assert "lineage.json" not in model.files, "paths of the export do not count for the version"


def test_a_gguf_file_is_served_with_texts_that_its_model_takes(
    adapters: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A first token in the publication needs no more tokens than a small model has.
    """
    longest = json.loads((base / "config.json").read_text())["max_position_embeddings"]
    export(adapters, tmp_path / "export", merge_adapters=True, to="gguf")
    argv = [str(tmp_path / "export" / "model.gguf"), "--name", "lora", "--out", str(tmp_path / "model")]
    assert publish_main(argv) == 0
    assert capsys.readouterr().out.endswith(f", texts of at most {longest} tokens\n")
    assert model_directory.read(tmp_path / "model").lineage["context_tokens"] == longest

    assert serve_main([str(tmp_path / "model"), "--set", "port=0", "--set", f"context_tokens={longest + 1}"]) == 2
    assert f"context_tokens: got {longest + 1}" in capsys.readouterr().err


def test_a_wrong_gguf_file_is_refused(adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "_pairs_beside_each_other", lambda tensor, heads: tensor)
    with pytest.raises(
        ExportDiffers, match=r"log-probabilities of llama.cpp differ by .* of the spread of the logits; at most 2%"
    ) as refusal:
        export(adapters, tmp_path / "model", merge_adapters=True, to="gguf")
    assert not (tmp_path / "model").exists()
    assert refusal.value.exit_status == 1


def test_a_format_that_loses_a_part_is_refused(experts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nothing stays in the directory of the export.
    """
    monkeypatch.setattr(hugging_face, "logits", lambda model, vocabulary: torch.rand(1, 2, 3))
    with pytest.raises(UserError, match="the export is not the trained model when it is loaded again"):
        export(experts, tmp_path / "model", merge_adapters=False, dtype="fp32")
    assert not (tmp_path / "model").exists()


def refused(run: Path, out: Path, merge_adapters: bool = False) -> str:
    with pytest.raises(UserError) as error:
        export(run, out, merge_adapters, "fp32")
    return str(error.value)


def test_mlflow_finds_the_parts_of_a_registered_export(experts: Path, tmp_path: Path) -> None:
    """
    In the layout of its flavour for transformers.
    """
    lineage = export(experts, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    flavors = register.mlmodel(config, lineage, "run")["flavors"]
    places = {place for place, _ in register._artifacts(tmp_path / "model", lineage)}
    assert flavors["transformers"]["pipeline_model_type"] == "DeepseekV3ForCausalLM"
    assert flavors["python_function"]["loader_module"] == "mlflow.transformers"
    assert {
        "model/config.json",
        "model/model.safetensors",
        "components/tokenizer/tokenizer.json",
        "lineage.json",
    } < places


def test_what_is_no_trained_language_model_is_refused(experts: Path, tmp_path: Path) -> None:
    assert "the directory has no readable lineage.json" in refused(tmp_path, tmp_path / "model")
    train(config("digits"), tmp_path / "digits", {})
    assert "the run trained a model of kind image-classifier; a language model" in refused(
        tmp_path / "digits", tmp_path / "model"
    )
    assert "--merge-adapters: " in refused(experts, tmp_path / "model", merge_adapters=True)


def test_adapters_alone_are_no_gguf_file(adapters: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--to gguf: a GGUF file has a whole model.*Add --merge-adapters"):
        export(adapters, tmp_path / "model", to="gguf")


def test_a_run_that_has_not_ended_is_refused_and_its_checkpoint_is_exported(tmp_path: Path) -> None:
    run = config("deepseek-v3-tiny", "data.sequence_length=16", "data.bytes_at_most=5000", *QUICK)
    train(run, tmp_path / "run", {}, stop_at=2)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-0000000002"
    assert refused(tmp_path / "run", tmp_path / "model") == (
        f"{tmp_path}/run: the run has not ended; its last checkpoint is that of step 2; a finished run, or one of its "
        f"checkpoints. Train to the end, or export {checkpoint}."
    )
    assert export(checkpoint, tmp_path / "model", False, "fp32")["step"] == 2


def test_a_chat_template_that_changed_after_the_training_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    chat.write_base(base)
    template = base / "chat_template.jinja"
    (tmp_path / "text.txt").write_text("a hospital has wards and beds; " * 8)
    model = {"kind": "hugging-face", "path": str(base)}
    text = {"kind": "text", "path": str(tmp_path / "text.txt"), "tokenizer": str(base), "sequence_length": 16}
    train(config("lora", f"model={json.dumps(model)}", f"data={json.dumps(text)}", *QUICK), tmp_path / "run", {})
    content = template.read_text()
    template.write_text("{{ messages }}")
    assert f"{template}: the file is " in refused(tmp_path / "run", tmp_path / "model")
    template.write_text(content)
    (base / "vocab.txt").write_text("new")
    assert "vocab.txt: the file is " in refused(tmp_path / "run", tmp_path / "model")


def test_a_diverged_run_is_described_by_its_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Before, the way out was to wait for its end.
    """
    monkeypatch.setattr(loop, "are_finite", lambda tensors: False)
    with pytest.raises(DivergenceError):
        train(config("deepseek-v3-tiny", "data.sequence_length=16", "data.bytes_at_most=5000", *QUICK), tmp_path, {})
    expected = f"{tmp_path}: the run has not ended, and has no checkpoint; a finished run. Train to the end."
    assert refused(tmp_path, tmp_path / "model") == expected


def test_adapters_of_another_base_are_refused(adapters: Path, base: Path, tmp_path: Path) -> None:
    content = (base / "config.json").read_text()
    try:
        (base / "config.json").write_text(content + "\n")
        assert "which is not what the run was trained from" in refused(adapters, tmp_path / "model", True)
    finally:
        (base / "config.json").write_text(content)
