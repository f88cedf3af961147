"""A tokenizer is read as it was trained, and exported where other programs read it in the same way."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from workloads.export.gguf import first_text_with_other_tokens
from workloads.export.hugging_face import check_tokenizer
from workloads.export.trained import ExportDiffers
from workloads.training.tokenizer import TEXTS, load_tokenizer

ROWS = [f"Rack {number} is in row {number * 7 % 50}." for number in range(300)]


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Return a model of type qwen2 whose tokenizer keeps the digits of a number together, which Qwen's does not."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(ROWS, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}))
    return tmp_path


def test_a_tokenizer_is_read_as_its_file_says(foreign: Path) -> None:
    """transformers chooses the class of the model's type, which divided numbers otherwise than servers do."""
    own = Tokenizer.from_file(str(foreign / "tokenizer.json"))
    loaded = load_tokenizer(str(foreign))
    assert [loaded(text)["input_ids"] for text in TEXTS] == [own.encode(text).ids for text in TEXTS]
    chosen = AutoTokenizer.from_pretrained(foreign)
    assert [chosen(text)["input_ids"] for text in TEXTS] != [own.encode(text).ids for text in TEXTS]


def test_an_export_that_transformers_would_read_otherwise_is_refused(foreign: Path) -> None:
    with pytest.raises(ExportDiffers, match="transformers chooses Qwen2Tokenizer for this type of model"):
        check_tokenizer(foreign)
    (foreign / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    check_tokenizer(foreign)


def test_a_server_that_divides_a_text_otherwise_is_noticed(foreign: Path) -> None:
    loaded = load_tokenizer(str(foreign))

    class Server:
        """llama.cpp, which says how many tokens a text has."""

        def handle_completions(self, request: dict[str, object]) -> dict[str, object]:
            text = str(request["prompt"])
            more = text == TEXTS[3]
            return {"usage": {"prompt_tokens": len(loaded(text)["input_ids"]) + more}}

    assert first_text_with_other_tokens(Server(), loaded) == TEXTS[3]
