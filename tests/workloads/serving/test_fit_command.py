"""The command that prints layouts: what it reads a model from, its lines and its JSON, its exit statuses."""

import json
from pathlib import Path

import pytest

from workloads.catalogue.models import model_config
from workloads.serving.fit.__main__ import main

H100 = ("--gpu", "h100-sxm")


def test_each_line_has_a_layout_its_memory_and_the_options_of_vllm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deepseek-r1", *H100, "--hosts", "2"]) == 0
    title, given, head, first, *_ = capsys.readouterr().out.splitlines()

    assert title.startswith("DeepSeek-R1: 673.2 GB of weights in 61 layers, and 15.4 GB for speculative decoding")
    assert given == "2 x 8 h100-sxm, 76.4 GB of each GPU for vLLM; context_tokens 4096, parallel 4"
    assert head.split() == ["layout", "weights", "cache", "beside", "in", "all", "tokens", "options", "of", "vLLM"]
    assert first.startswith("2 hosts: tensor_parallel 8, pipeline_parallel 2 ")
    assert first.endswith(" --tensor-parallel-size 8 --pipeline-parallel-size 2 --nnodes 2")


def test_a_proposal_says_that_no_environment_is_for_its_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deepseek-r1", "--gpu", "mi300x"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "No environment of rackwright computes on AMD Instinct MI300X: a server names one of its own."

    assert main(["deepseek-r1", *H100, "--hosts", "2"]) == 0
    assert "No environment" not in capsys.readouterr().out


def test_what_does_not_fit_is_status_1_with_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deepseek-r1", *H100]) == 1
    printed = capsys.readouterr()
    assert "the model does not fit: 673.2 GB of weights on 8 GPUs (tensor_parallel 8)" in printed.err
    assert "Serve it on 2 such hosts, with tensor_parallel 8, pipeline_parallel 2" in printed.err
    assert "options of vLLM" not in printed.out

    assert main(["deepseek-r1", *H100, "--all"]) == 1
    assert "does not fit: tensor_parallel 8 " in capsys.readouterr().out


def test_json_has_the_bytes_of_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    declared = ("--tensor-parallel", "8", "--data-parallel", "1", "--decode-context-parallel", "8", "--speculative")
    assert main(["deepseek-v3", *H100, "--hosts", "2", *declared, "--expert-parallel", "true", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)

    assert found["settings"] == {
        "tensor_parallel": 8, "pipeline_parallel": 2, "expert_parallel": True, "decode_context_parallel": 8,
    }  # fmt: skip
    assert [stage["layers"] for stage in found["stages"]] == [31, 30]
    assert all(
        stage["total_bytes"] == stage["weight_bytes"] + stage["cache_bytes"] + stage["beside_bytes"]
        for stage in found["stages"]
    )
    assert (found["fits"], found["hosts"], found["gpus"]) == (True, 2, 16)
    assert found["options"][-2:] == ["--decode-context-parallel-size", "8"]


def test_a_config_json_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(model_config("qwen3-32b")))
    for model in (path, tmp_path):
        assert main([str(model), *H100, "--gpus", "1"]) == 0
        assert "65.5 GB of weights in 64 layers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["none", *H100], "none: there is no such model"),
        (["qwen3-32b", "--gpu", "h1000"], "--gpu: the catalogue has no memory of 'h1000'"),
        (["qwen3-32b", "--gpu", "orin"], "--gpu: the catalogue has no memory of 'orin'"),
        (["qwen3-32b", *H100, "--gpus", "0"], "--gpus: 0 is too few"),
        (["qwen3-32b", *H100, "--context-tokens", "-1"], "--context-tokens: -1 is too few"),
    ],
)
def test_a_wrong_argument_is_status_2(argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert expected in capsys.readouterr().err


def test_a_config_json_that_is_none_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    for content, message in (
        ("[]", "the file has a list"),
        ("{", "the file cannot be read"),
        ("{}", "num_attention_heads"),
    ):
        path.write_text(content)
        assert main([str(path), *H100]) == 2
        assert message in capsys.readouterr().err


def test_a_context_that_the_model_does_not_take_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["qwen3-32b", *H100, "--context-tokens", "50000"]) == 1
    assert "context_tokens 50000 is more than the model takes" in capsys.readouterr().err


def test_a_model_with_a_short_context_is_planned_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**model_config("qwen3-32b"), "max_position_embeddings": 2048}))
    assert main([str(path), *H100]) == 0
    assert "context_tokens 2048, parallel 4" in capsys.readouterr().out


def test_gpus_of_a_host_that_a_layout_leaves_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deepseek-r1-distill-llama-70b", "--gpu", "h200"]) == 0
    out = capsys.readouterr().out
    assert (
        "The first layout: tensor_parallel 2 leaves 6 of 8 GPUs of the host unused: 3 more servers with vllm.gpus: 2 "
        "can use them." in out
    )
    assert main(["deepseek-r1", "--gpu", "h200"]) == 0
    assert "unused" not in capsys.readouterr().out


def test_what_a_recipe_advises_against_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deepseek-v3.2", "--gpu", "h200"]) == 0
    assert "tensor_parallel 8 gives each GPU 16 of 128 heads" in capsys.readouterr().out
    assert main(["deepseek-v3.2", "--gpu", "h200", "--data-parallel", "8"]) == 0
    assert "heads" not in capsys.readouterr().out
