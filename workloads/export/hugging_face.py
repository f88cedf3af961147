"""Export as a directory that transformers and vLLM load, or as adapters in the format of PEFT."""

import shutil
from pathlib import Path
from typing import Any

import torch

from workloads.errors import Diagnostic
from workloads.export.trained import ExportDiffers, TrainedModel, draft_logits, fixed_tokens, logits
from workloads.files import refuse_links
from workloads.training import lora, multi_token
from workloads.training.config import HuggingFace
from workloads.training.models import SAFE, vocabulary_size
from workloads.training.tokenizer import TOKENIZER_FILES, other_tokens

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROUTING = {"deepseek_v3": {"topk_method": "noaux_tc", "scoring_func": "sigmoid"}}
"""Values of config.json that transformers has built in, by model type, and that vLLM reads: without them it chooses the
experts in another way. Source: config.json of DeepSeek-V3, and DeepseekV3TopkRouter of transformers."""
BESIDE_WEIGHTS = ("generation_config.json", *TOKENIZER_FILES)
"""Files of a base model or tokenizer that belong to an export; none of them is code."""


def write_adapters(trained: TrainedModel, directory: Path) -> dict[str, Any]:
    """Write the adapters to *directory* in the format of PEFT, and return what was proved.

    Raises:
        ExportDiffers: The written adapters are not those of the model.
    """
    from safetensors.torch import load_file

    assert trained.lora and isinstance(trained.config.model, HuggingFace)
    adapters = lora.adapter_tensors(trained.model)
    lora.write_adapters(adapters, trained.lora, trained.config.model.path, directory)
    written = load_file(directory / "adapter_model.safetensors")
    if written.keys() != adapters.keys() or not all(
        torch.equal(written[name], each) for name, each in adapters.items()
    ):
        raise _differs(directory)
    return {"proof": "the written adapters are those of the checkpoint"}


def write_model(trained: TrainedModel, directory: Path, dtype: str) -> dict[str, Any]:
    """Write the whole model to *directory*, load it again with transformers, and return what was proved.

    Raises:
        ExportDiffers: The logits of the loaded model, or of its module of multi-token prediction, are other ones.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    inner: Any = trained.model.model
    vocabulary = vocabulary_size(trained.model) or 1
    for weight in inner.parameters():  # rounded first, so that the comparison is exact; buffers stay fp32
        weight.data = weight.data.to(DTYPES[dtype]).float()
    expected, drafted = logits(inner, vocabulary), draft_logits(inner) if trained.has_mtp else None
    for weight in inner.parameters():
        weight.data = weight.data.to(DTYPES[dtype])
    inner.config.dtype, inner.config.use_cache = DTYPES[dtype], True  # training has no cache, and generation needs one
    inner.config.update(ROUTING.get(inner.config.model_type, {}))
    inner.save_pretrained(directory, state_dict=multi_token.checkpoint_state(inner) if trained.has_mtp else None)
    _write_tokenizer(trained, directory)
    if trained.has_mtp:
        logging.set_verbosity_error()  # transformers lists the module's weights, which the model itself does not use
    loaded: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, use_safetensors=True, **SAFE)
    if not torch.equal(logits(loaded.eval(), vocabulary), expected):
        raise _differs(directory)
    proof = f"transformers loads it with equal logits for {expected.shape[0] * expected.shape[1]} positions"
    if drafted is None:
        return {"proof": proof}
    if not torch.equal(_loaded_draft_logits(loaded), drafted):
        raise _differs(directory)
    return {"proof": f"{proof}, and with equal drafts of multi-token prediction"}


def check_tokenizer(directory: Path) -> None:
    """Return if the model in *directory* gets the tokens of its training from transformers, and so from vLLM.

    Raises:
        ExportDiffers: transformers chooses a class of tokenizer that divides texts differently.
    """
    if other := other_tokens(str(directory)):
        kind, text = other
        problem = f"transformers chooses {kind} for this type of model, which divides {text!r} otherwise"
        note = "programs such as vLLM choose it too, and the model was trained on the tokens of its tokenizer.json"
        help = "Export it with --to gguf, if llama.cpp knows that tokenizer"
        raise ExportDiffers(Diagnostic("--to huggingface", problem, "equal tokens", help, note))


def _loaded_draft_logits(loaded: Any) -> torch.Tensor:
    """Return the draft logits of the module that transformers finds in the files of the model *loaded*."""
    from transformers.modeling_layers import MtpModel

    # transformers 5.24 looks for the module by the layers that it ignores, which it lists for the published model alone
    loaded._keys_to_ignore_on_load_unexpected = [rf"model\.layers\.{loaded.config.num_hidden_layers}.*"]
    module: Any = MtpModel.from_pretrained(loaded, dtype=torch.float32).eval()
    tokens = fixed_tokens(loaded.config.vocab_size)
    positions = torch.arange(tokens.shape[1] - 1).unsqueeze(0)
    with torch.inference_mode():
        features = loaded.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
        result: torch.Tensor = module.shared_head(
            module.forward_layer(0, features, positions, None, input_ids=tokens[:, 1:])
        )
    return result


def _differs(directory: Path) -> ExportDiffers:
    problem = "the export is not the trained model when it is loaded again"
    note = "the format or this version of transformers loses a part of the model"
    help = "Report the model's architecture; nothing was published"
    return ExportDiffers(Diagnostic(str(directory), problem, "equal numbers", help, note))


def _write_tokenizer(trained: TrainedModel, directory: Path) -> None:
    """Copy the files of the tokenizer and the base beside the weights; bytes get a tokenizer of 256 tokens."""
    base = Path(trained.config.model.path) if isinstance(trained.config.model, HuggingFace) else None
    sources = [source for source in (base, trained.tokenizer) if source]
    for source in sources:
        files = [source / name for name in BESIDE_WEIGHTS if (source / name).is_file()]
        refuse_links(source, files)
        for file in files:
            shutil.copyfile(file, directory / file.name)
    if trained.tokenizer is None:
        byte_tokenizer().save_pretrained(directory)


def byte_tokenizer() -> Any:
    """Return the tokenizer whose token of a byte is the byte's value, as a training on bytes has it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = bytes_to_unicode()
    tokenizer = Tokenizer(models.BPE({letters[byte]: byte for byte in range(256)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
