"""Files that the workloads read, and answers of other servers: each function returns, or raises an error of ours.

`READERS` names the module of each; `tests/test_fuzzed_readers.py` compares it with all modules that read foreign data.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st

from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import Mutations, mutated_bytes, mutated_data, of_bytes, of_data
from workloads.errors import UserError
from workloads.evaluation import data, gate, served
from workloads.export import gguf
from workloads.quantize import hugging_face
from workloads.serving import exported, fit, vllm
from workloads.serving.fit import __main__ as fit_command
from workloads.serving.fit.shape import shape_of
from workloads.tracking import provenance
from workloads.tracking.server import TrackingServer
from workloads.training import chat_template, conversations, initial_weights, records
from workloads.training.config import Conversations

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128, "vocab_size": 256,
    "max_position_embeddings": 512, "torch_dtype": "bfloat16", "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "decoder_sparse_step": 1, "mlp_only_layers": [], "rope_scaling": {"factor": 2.0},
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["a"]},
    "tie_word_embeddings": False, "sliding_window": 128, "layer_types": ["full_attention", "sliding_attention"],
}  # fmt: skip
HEAD = {"a.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"format": "pt"}}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
REPORT = {
    "results": [
        {"data": "a.jsonl", "kind": "choices", "sha256": "0", "rows": 2, "accuracy": 0.5},
        {"data": "b.jsonl", "kind": "texts", "sha256": "1", "rows": 2, "bits_per_byte": 1.5},
    ]
}
TOKENIZER = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b", ["a", "b"]]},
    "added_tokens": [{"id": 2, "content": "<s>", "special": True}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
}
CALL = {"function": {"name": "f", "arguments": '{"a": 1}'}}
CONVERSATION = {
    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": [CALL]}],
    "tools": [{"type": "function"}],
}


class _Directory:
    """A directory with one file, or none."""

    def __init__(self, name: str, content: bytes) -> None:
        self._name, self._content = name, content

    def __enter__(self) -> Path:
        self._temporary = TemporaryDirectory()
        path = Path(self._temporary.name)
        (path / self._name).write_bytes(self._content)
        return path

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()


def _allowed(use: Callable[[], object]) -> None:
    try:
        use()
    except UserError as error:
        assert str(error)


def _evaluation_data(content: bytes) -> None:
    with _Directory("data.jsonl", content) as directory:
        _allowed(lambda: data.read("choices", directory / "data.jsonl"))
        _allowed(lambda: data.read("texts", directory / "data.jsonl"))


def _report(content: bytes) -> None:
    with _Directory("report.json", content) as directory:

        def use() -> None:
            report = gate.read_report(directory / "report.json")
            gate.shortfalls(REPORT, report, 0.1, 0.5)

        _allowed(use)


def _first_answer(content: bytes) -> None:
    answer = SimpleNamespace(read=lambda *_: content, status=200)
    answer.__enter__ = lambda: answer

    class Client:
        def __init__(self, *_: object) -> None: ...

        def send(self, *_: object) -> "_Answer":
            return _Answer(content)

    model = served.ServedModel("http://localhost:1", "m", Path())
    with patch.object(served, "HttpClient", Client):
        _allowed(lambda: served.check(model))


class _Answer:
    """An answer of HTTP."""

    def __init__(self, content: bytes) -> None:
        self._left = content
        self.length = None

    def __enter__(self) -> "_Answer":
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, size: int = -1) -> bytes:
        size = len(self._left) if size < 0 else size
        part, self._left = self._left[:size], self._left[size:]
        return part

    read1 = read


def _tokenizer(content: bytes) -> None:
    with _Directory("tokenizer.json", content) as directory:
        _allowed(lambda: gguf.read_vocabulary(directory, 4))


def _pooling(content: bytes) -> None:
    with _Directory("modules.json", content) as directory:
        _pooling_of(directory)
    with _Directory("modules.json", json.dumps(MODULES).encode()) as directory:
        (directory / "1_Pooling").mkdir()
        (directory / "1_Pooling/config.json").write_bytes(content)
        _pooling_of(directory)


def _pooling_of(directory: Path) -> None:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):  # `export` refuses these
        _allowed(lambda: hugging_face._read_pooling(directory))


def _lineage(content: bytes) -> None:
    with _Directory("lineage.json", content) as directory:
        _allowed(lambda: exported.exported_lineage(directory))
        _allowed(lambda: exported.describe(directory))
        _allowed(lambda: provenance.collect(directory))
    with _Directory("provenance.json", content) as directory:
        _allowed(lambda: provenance.collect(directory))


def _fit(content: bytes) -> None:
    with _Directory("config.json", content) as directory:

        def use() -> None:
            config = fit_command.read_config(directory / "config.json")
            fit.sizes(config, fit.computed_tensors(shape_of(config)))

        _allowed(use)


def _head(content: bytes) -> None:
    with _Directory("a.safetensors", len(content).to_bytes(8, "little") + content + b"\0" * 4) as directory:
        _allowed(lambda: fit.read_tensors([directory / "a.safetensors"]))


def _published(content: bytes) -> None:
    head = json.dumps(HEAD).encode()
    weights = len(head).to_bytes(8, "little") + head + b"\0" * 4
    for name in (vllm.CONFIG, vllm.INDEX, "tokenizer_config.json"):
        with _Directory("a.safetensors", weights) as directory, TemporaryDirectory() as out:
            (directory / vllm.CONFIG).write_text(json.dumps(CONFIG))
            (directory / name).write_bytes(content)
            _allowed(lambda: vllm.publish_vllm(directory, "m", None, Path(out, "m")))


def _tracking(content: bytes) -> None:
    server: Any = object.__new__(TrackingServer)
    server.url = "http://localhost:1"
    error: Any = SimpleNamespace(code=400, reason="x", headers={}, read=lambda *_: content)
    assert isinstance(server._error_for(error), UserError)
    _allowed(lambda: server._parse_response(_Answer(content)))


def _messages(content: bytes) -> None:
    text = content.decode("utf-8", "replace")
    assert chat_template.as_object(text) is not None or text.strip() == "null"
    with _Directory("data.jsonl", content) as directory:
        config = Conversations(path=str(directory / "data.jsonl"), tokenizer="x", sequence_length=16)

        def use() -> None:
            for each in conversations.read(config):
                assert conversations.are_messages(each.messages)
                json.dumps([records.canonical(*each), *records.unread_keys(each.messages)])

        _allowed(use)


def _generation(content: bytes) -> None:
    with _Directory("generation_config.json", content) as directory:
        assert all(isinstance(each, int) for each in conversations.stops(str(directory)))


def _index(content: bytes) -> None:
    with _Directory(initial_weights.INDEX, content) as directory:

        def use() -> None:
            files = initial_weights.WeightFiles(directory, {})
            for sources in files.sources("a.weight", None):
                assert sources == ["a.weight"]
            assert all(re.fullmatch(r"[^/]+", name) for name in files.names())

        _allowed(use)


READERS: Mapping[str, tuple[Callable[[bytes], None], list[Any]]] = {
    "workloads/evaluation/data.py": (
        _evaluation_data,
        [{"question": "a", "choices": ["b", "c"], "answer": 1}, {"text": "a"}],
    ),
    "workloads/evaluation/gate.py": (_report, [REPORT]),
    "workloads/evaluation/served.py": (_first_answer, [{"choices": [{"logprobs": {"token_logprobs": [0.5]}}]}]),
    "workloads/training/tokenizer.py": (_tokenizer, [TOKENIZER]),
    "workloads/quantize/hugging_face.py": (_pooling, [MODULES, {"pooling_mode_mean_tokens": True}]),
    "workloads/serving/exported.py": (
        _lineage,
        [{"checkpoint": "0", "config": "1", "quantization": {"a": 1}}, {"run": "a", "step": 1, "files": {}}],
    ),
    "workloads/serving/fit/__main__.py": (_fit, [CONFIG, {**CONFIG, "text_config": CONFIG}]),
    "workloads/serving/fit/checkpoint.py": (_head, [HEAD]),
    "workloads/serving/vllm.py": (_published, [CONFIG, {"weight_map": {"a.weight": "a.safetensors"}}]),
    "workloads/tracking/provenance.py": (
        _lineage,
        [{"declared": True, "data": [{"sha256": "0"}], "parent": {"sha256": "1"}, "hosts": {"a": "b"}}],
    ),
    "workloads/tracking/server.py": (_tracking, [{"message": "no", "run": {"info": {"run_id": "0"}}}]),
    "workloads/training/chat_template.py": (_messages, [{"a": 1}]),
    "workloads/training/conversations.py": (_generation, [{"eos_token_id": [1, 2]}]),
    "workloads/training/initial_weights.py": (_index, [{"weight_map": {"a.weight": "model-1.safetensors"}}]),
    "workloads/training/row_files.py": (_messages, [CONVERSATION]),
}
"""A function of foreign bytes for each module, with valid inputs."""


def check(case: tuple[str, int, Mutations, Mutations, bytes]) -> None:
    name, which, data_mutations, raw, noise = case
    read, seeds = READERS[name]
    seed = seeds[which % len(seeds)]
    text = json.dumps(seed).encode()
    changed = json.dumps(mutated_data(seed, data_mutations)).encode(errors="surrogatepass")
    for content in (changed, mutated_bytes(text, raw), mutated_bytes(changed, raw), noise):
        read(content)


def run(count: int, number: int) -> None:
    noise = st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    names = st.sampled_from([*READERS])
    with suppress(ImportError):
        import torch

        torch.set_num_threads(1)
    cases(count, number, st.tuples(names, st.integers(0, 99), of_data, of_bytes, noise), check)
