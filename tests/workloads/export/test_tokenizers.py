"""A tokenizer is read as it was trained, and exported where other programs read it in the same way."""

import json
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from workloads.export.gguf import first_text_with_other_tokens
from workloads.export.hugging_face import check_tokenizer
from workloads.export.trained import ExportDiffers
from workloads.serving.vllm import _tokenizer_note
from workloads.training.tokenizer import PRE_TOKENIZERS, TEXTS, export_warning, llama_split, load_tokenizer

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


def test_a_run_says_at_its_start_that_its_model_cannot_be_exported(foreign: Path) -> None:
    """A model of type qwen2 with the tokenizer of another one trained for hours, and no export took it."""
    assert export_warning(str(foreign)) == "", "llama.cpp knows the split of GPT-2"
    changed = json.loads((foreign / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": "own"}, "behavior": "Isolated", "invert": False}
    changed["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, changed["pre_tokenizer"]]}
    (foreign / "tokenizer.json").write_text(json.dumps(changed))
    assert "the trained model cannot be exported: transformers and vLLM choose Qwen2Tokenizer" in export_warning(
        str(foreign)
    )
    (foreign / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    assert export_warning(str(foreign)) == ""


def test_a_publication_for_vllm_says_that_texts_are_divided_otherwise(foreign: Path) -> None:
    assert _tokenizer_note(foreign).startswith(
        "vLLM takes Qwen2Tokenizer for this type of model, which divides 'Rack 7"
    )
    (foreign / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    assert _tokenizer_note(foreign) == ""


@pytest.mark.parametrize(("splits", "name"), PRE_TOKENIZERS.items())
def test_each_known_split_is_found_in_the_file_that_tokenizers_writes(splits: tuple[str, ...], name: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    parts = [pre_tokenizers.Split(Regex(each), "isolated") for each in splits]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(False, use_regex=not parts)])
    assert llama_split(json.loads(tokenizer.to_str())) == name


def test_a_server_that_divides_a_text_otherwise_is_noticed(foreign: Path) -> None:
    loaded = load_tokenizer(str(foreign))

    class Server:
        """llama.cpp, which says how many tokens a text has."""

        def handle_completions(self, request: dict[str, object]) -> dict[str, object]:
            text = str(request["prompt"])
            more = text == TEXTS[3]
            return {"usage": {"prompt_tokens": len(loaded(text)["input_ids"]) + more}}

    assert first_text_with_other_tokens(Server(), loaded) == TEXTS[3]
