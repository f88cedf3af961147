"""Export as a GGUF file for llama.cpp, whose own package has the names of tensors and metadata, and writes the file."""

import math
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from torch import Tensor

from workloads.errors import Diagnostic, UserError
from workloads.export import hugging_face
from workloads.export.rounding import Q8_0, QUANTIZED, ROUTERS, is_quantized
from workloads.export.trained import ExportDiffers, TrainedModel, fixed_tokens, logits
from workloads.training.tokenizer import TEXTS, llama_split, load_tokenizer, read_tokenizer

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "deepseek_v3": "deepseek2"}
"""llama.cpp's names of the architectures, by transformers' model types."""
QUESTION = [{"role": "user", "content": TEXTS[0]}]
"""The chat whose prompt is compared."""
CHECKED_TOKENS = 1024
"""Tokens of the context in which texts are compared: all of them are shorter."""
Value = bool | int | float | str | list[str] | list[int]
NO_MERGE = "[none] [none]"
"""A merge that never applies, for a tokenizer without merges: the writer leaves empty lists out, which llama.cpp wants.
A merge joins single letters, or what others have joined, and no letter is so long."""
TOLERANCE = 0.02
"""Largest difference of a log-probability, as a share of the standard deviation of the logits.

llama.cpp keeps its cache in fp16, and rounds otherwise than PyTorch: right files differ by 0.4 % at most, and a file
with a wrong rotation of positions by 15 %.
"""
ROUNDED_TOLERANCE = 0.06
"""The same for weights in 8 bits: llama.cpp then rounds activations to 8 bits as well, which made 2.0 % of a trained
model."""


def write_model(trained: TrainedModel, directory: Path, dtype: str) -> dict[str, Any]:
    """Write the model to ``model.gguf`` in *directory*, load it with llama.cpp, and return what was proved.

    Raises:
        UserError: The model has no such form.
        ExportDiffers: The log-probabilities of the loaded model are other ones.
    """
    source, path = directory / "huggingface", directory / "model.gguf"
    if trained.has_mtp:
        trained = trained.without_mtp()
    hugging_face.write_model(trained, source, "fp32" if dtype in QUANTIZED else dtype)
    model: Any = trained.model.model
    write_gguf(model, source, trained.config.name, dtype, path)
    tokenizer = load_tokenizer(str(source), "--to gguf")
    shutil.rmtree(source)
    vocabulary = model.config.vocab_size
    expected_logits = logits(model.float(), vocabulary)[0, -1]
    server = open_server(path)
    difference = largest_difference(server, expected_logits, fixed_tokens(vocabulary)[0].tolist())
    share = difference / float(expected_logits.std())
    tolerance = ROUNDED_TOLERANCE if dtype in QUANTIZED else TOLERANCE
    if not share <= tolerance:
        problem = f"log-probabilities of llama.cpp differ by {share:.2%} of the spread of the logits"
        expected = f"at most {tolerance:.0%}"
        help = "Export it with --to huggingface, and report the architecture"
        raise ExportDiffers(Diagnostic(str(path), problem, expected, help))
    if text := first_text_with_other_tokens(server, tokenizer):
        problem = f"llama.cpp divides {text!r} into another number of tokens than the tokenizer of the training"
        help = "Export it with --to huggingface, and report the tokenizer"
        raise ExportDiffers(Diagnostic(str(path), problem, "equal tokens", help))
    prompt = chat_prompt(tokenizer)
    if prompt and (others := other_number_of_tokens(server, tokenizer, prompt)):
        problem = f"a chat prompt in llama.cpp has {others[0]}, not {others[1]} tokens"
        help = "Export it with --to huggingface, and report the chat template"
        raise ExportDiffers(Diagnostic(str(path), problem, "that of the tokenizer of the training", help))
    proof = f"llama.cpp loads it, and its log-probabilities differ by at most {difference:.2g}"
    chat = " and a chat prompt" if prompt else ""
    return {"proof": f"{proof}; {len(TEXTS)} texts{chat} have as many tokens"}


def write_gguf(model: Any, source: Path, name: str, dtype: str, path: Path) -> None:
    """Write *model*, of transformers and in host memory, to the GGUF file *path*.

    Args:
        source: Directory of the same model with its tokenizer.
        dtype: Number format of the matrices: fp32, bf16, fp16, or one of `QUANTIZED`.

    Raises:
        UserError: This export does not know the architecture, its scaling of positions, or the tokenizer.
    """
    config = model.config
    if config.model_type not in ARCHITECTURES:
        problem, expected = f"the model is a {config.model_type}", f"one of {', '.join(ARCHITECTURES)}"
        raise UserError(Diagnostic("--to gguf", problem, expected, "Export it with --to huggingface"))
    writer = gguf.GGUFWriter(path, ARCHITECTURES[config.model_type])
    for key, value in {"name": name, **_sizes(config), **_tokenizer(source, config)}.items():
        getattr(writer, f"add_{key}")(value)
    for key, tensor in _tensors(model):
        if dtype in QUANTIZED and is_quantized(key, tensor):
            writer.add_tensor(key, gguf.quants.quantize(tensor.detach().float().numpy(), Q8_0), raw_dtype=Q8_0)
            continue
        is_narrow = tensor.dim() > 1 and not key.endswith(ROUTERS)
        narrow = hugging_face.DTYPES.get(dtype, torch.float32)
        _add_tensor(writer, key, tensor.to(narrow if is_narrow else torch.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Tensor) -> None:
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:  # NumPy has no such type
        content: np.ndarray = tensor.view(torch.uint8).numpy()
        writer.add_tensor(name, content, raw_dtype=gguf.GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(name, tensor.numpy())


def _sizes(config: Any) -> dict[str, Value]:
    """Return the sizes of the model, by the names of the writer's methods without ``add_``."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sizes: dict[str, Value] = {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "head_count": config.num_attention_heads, "head_count_kv": config.num_key_value_heads,
        "layer_norm_rms_eps": float(config.rms_norm_eps), "vocab_size": config.vocab_size,
        "rope_freq_base": float(config.rope_parameters["rope_theta"]),
    }  # fmt: skip
    if config.model_type != "deepseek_v3":
        return sizes | {"key_length": head, "value_length": head, "rope_dimension_count": head}
    return sizes | {  # latent attention is one head of keys and values, as llama.cpp computes it
        "head_count_kv": 1, "rope_dimension_count": config.qk_rope_head_dim,
        "q_lora_rank": config.q_lora_rank, "kv_lora_rank": config.kv_lora_rank,
        "key_length": config.kv_lora_rank + config.qk_rope_head_dim, "value_length": config.kv_lora_rank,
        "key_length_mla": config.qk_nope_head_dim + config.qk_rope_head_dim, "value_length_mla": config.v_head_dim,
        "leading_dense_block_count": config.first_k_dense_replace,
        "expert_feed_forward_length": config.moe_intermediate_size, "expert_count": config.n_routed_experts,
        "expert_used_count": config.num_experts_per_tok, "expert_shared_count": config.n_shared_experts,
        "expert_group_count": config.n_group, "expert_group_used_count": config.topk_group,
        "expert_weights_scale": float(config.routed_scaling_factor), "expert_weights_norm": config.norm_topk_prob,
        "expert_gating_func": gguf.ExpertGatingFuncType.SIGMOID,
    }  # fmt: skip


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of *model* by llama.cpp's names."""
    config, tied = model.config, model.config.tie_word_embeddings
    [architecture] = [key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == ARCHITECTURES[config.model_type]]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        place, layer = re.fullmatch(r"(model\.layers\.\d+\.)?(.+)", name).groups("")  # type: ignore[union-attr]
        for part, value in _layer_tensors(layer, tensor, config):
            known = names.get_name(place + part, try_suffixes=(".weight", ".bias"))
            if known is None:
                problem, expected = f"llama.cpp has no name for the weight {name}", "a plain model of this architecture"
                raise UserError(Diagnostic("--to gguf", problem, expected, "Export it with --to huggingface"))
            yield known, value
    yield from _position_factors(model)


def _layer_tensors(name: str, tensor: Tensor, config: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield a tensor of a layer in the parts and the order that llama.cpp expects, by their usual names."""
    place = name.rpartition(".")[0]
    if name == "mlp.experts.gate_up_proj":
        gate, up = tensor.chunk(2, dim=1)
        yield from (("mlp.experts.gate_proj.weight", gate), ("mlp.experts.up_proj.weight", up))
    elif name == "mlp.experts.down_proj":
        yield "mlp.experts.down_proj.weight", tensor
    elif name == "mlp.gate.e_score_correction_bias":
        yield "mlp.gate.e_score_correction.bias", tensor
    elif name == "self_attn.kv_b_proj.weight":
        both = tensor.view(config.num_attention_heads, -1, tensor.shape[-1])
        keys, values = both.split([config.qk_nope_head_dim, config.v_head_dim], dim=1)
        yield from (("self_attn.k_b_proj.weight", keys.transpose(1, 2)), ("self_attn.v_b_proj.weight", values))
    else:
        heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
        if place in heads and ARCHITECTURES[config.model_type] == "llama":
            tensor = _pairs_beside_each_other(tensor, heads[place])
        yield name, tensor


def _pairs_beside_each_other(tensor: Tensor, heads: int) -> Tensor:
    """Return the rows in the order of llama.cpp's rotation, which turns neighbours, for heads of halves."""
    return tensor.reshape(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _position_factors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the factors of rotary frequencies that Llama 3 scales."""
    parameters = model.config.rope_parameters
    kind = parameters.get("rope_type", "default")
    if kind == "default":
        return
    if kind != "llama3":
        problem, expected = f"the model scales positions by {kind}", "no scaling, or that of Llama 3"
        raise UserError(Diagnostic("--to gguf", problem, expected, "Export it with --to huggingface"))
    scaled = model.model.rotary_emb.inv_freq.float()
    steps = torch.arange(len(scaled)) / len(scaled)
    yield "rope_freqs.weight", parameters["rope_theta"] ** -steps / scaled


def _tokenizer(source: Path, config: Any) -> dict[str, Value]:
    """Return the tokenizer in the directory *source*, by the names of the writer's methods without ``add_``."""
    vocabulary = read_vocabulary(source, config.vocab_size)
    begin, end = config.bos_token_id, config.eos_token_id
    tokenizer = load_tokenizer(str(source), "--to gguf")
    first = tokenizer("a")["input_ids"][0]
    found: dict[str, Value] = {
        "tokenizer_model": "gpt2", "tokenizer_pre": vocabulary.pre, "token_list": vocabulary.tokens,
        "token_types": vocabulary.types, "token_merges": vocabulary.merges or [NO_MERGE],
        "add_bos_token": begin is not None and first == begin,
    }  # fmt: skip
    found |= {} if begin is None else {"bos_token_id": begin}
    found |= {} if end is None else {"eos_token_id": end if isinstance(end, int) else end[0]}
    template = chat_template(tokenizer)
    return found | ({"chat_template": template} if template else {})


def chat_template(tokenizer: Any) -> str | None:
    """Return the chat template of *tokenizer*: that of chat_template.jinja or of tokenizer_config.json, as DeepSeek's.

    If there are several, it is the one named default.
    """
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


class Vocabulary(NamedTuple):
    """The vocabulary of a tokenizer that merges bytes."""

    pre: str
    """llama.cpp's name of the split into words."""
    tokens: list[str]
    types: list[int]
    """The type of each token. Source: TokenType of GGUF."""
    merges: list[str]


def read_vocabulary(source: Path, size: int) -> Vocabulary:
    """Return the vocabulary of the tokenizer in the directory *source*, for a model with *size* tokens.

    Raises:
        UserError: The tokenizer is malformed, or not one that this export knows.
    """
    path = source / "tokenizer.json"
    try:
        found = _vocabulary(read_tokenizer(path) if path.is_file() else {}, size)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        problem, help = (
            f"{path} is malformed: {error!r}",
            "Save the tokenizer again, or export it with --to huggingface",
        )
        raise UserError(Diagnostic("--to gguf", problem, "a tokenizer.json of Hugging Face", help)) from None
    if not found:
        problem = "the tokenizer is not one that this export knows"
        expected = "BPE of bytes, as of Llama 3, Qwen or DeepSeek-V3"
        help = "Export it with --to huggingface, if transformers divides texts as its tokenizer.json says"
        raise UserError(Diagnostic("--to gguf", problem, expected, help))
    return found


def _vocabulary(values: Mapping[str, Any], size: int) -> Vocabulary | None:
    """Return the vocabulary in the content of a tokenizer.json; None if this export does not know it."""
    model = values.get("model", {})
    if model.get("type") != "BPE" or (pre := llama_split(values)) is None:
        return None
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [int(gguf.TokenType.UNUSED)] * size
    added = values.get("added_tokens", [])
    entries = [(text, number, gguf.TokenType.NORMAL) for text, number in model["vocab"].items()]
    for each in added:
        kind = gguf.TokenType.CONTROL if each["special"] else gguf.TokenType.USER_DEFINED
        entries.append((each["content"], each["id"], kind))
    for text, number, kind in entries:
        if type(number) is not int or not 0 <= number < size or not isinstance(text, str):
            raise ValueError(f"token {text!r:.60} has the number {number!r:.20}, of {size} tokens")
        tokens[number], types[number] = text, int(kind)
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    return Vocabulary(pre, tokens, types, merges)


def open_server(path: Path) -> Any:
    """Return llama.cpp's server of the file *path*.

    Raises:
        UserError: llama.cpp cannot load the file.
    """
    from workloads.serving import gguf_header
    from workloads.serving.runtimes.llama import start_server
    from workloads.serving.settings import ServingSettings

    few = min(CHECKED_TOKENS, gguf_header.check(path) or CHECKED_TOKENS)
    return start_server(path, ServingSettings(parallel=1, context_tokens=few))


def first_text_with_other_tokens(server: Any, tokenizer: Any) -> str | None:
    """Return the first of the texts that llama.cpp and *tokenizer* divide into another number of tokens."""
    for text in TEXTS:
        answer = server.handle_completions({"prompt": text, "max_tokens": 1})
        if (answer.get("usage") or {}).get("prompt_tokens") != len(tokenizer(text)["input_ids"]):
            return text
    return None


def chat_prompt(tokenizer: Any) -> str | None:
    """Return the prompt of a short chat; None without a chat template, or if the template refuses the chat."""
    if not chat_template(tokenizer):
        return None
    try:
        return str(tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False))
    except Exception:  # a template raises as its author chose
        return None


def other_number_of_tokens(server: Any, tokenizer: Any, prompt: str) -> tuple[int, int] | None:
    """Return the numbers of tokens of the short chat in llama.cpp's *server* and of its *prompt*, if they differ.

    The token at the beginning may come or go: some templates write it, and llama.cpp adds it.
    """
    from workloads.serving.runtimes.llama import prompt_tokens

    found, expected = prompt_tokens(server, QUESTION), len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    return (found, expected) if abs(found - expected) > 1 else None


def largest_difference(server: Any, logits: Tensor, tokens: list[int]) -> float:
    """Return how far log-probabilities of llama.cpp's *server* are from those of *logits*, at most.

    Args:
        logits: Logits for the token after *tokens*.
    """
    from workloads.serving.runtimes.llama import NEXT_TOKEN

    answer = server.handle_completions({"prompt": tokens, "logprobs": 10, **NEXT_TOKEN})
    expected = torch.log_softmax(logits, -1)
    found = _log_probabilities(answer)
    return max((abs(each["logprob"] - float(expected[each["id"]])) for each in found), default=math.inf)


def _log_probabilities(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = ((answer.get("choices") or [{}])[0].get("logprobs") or {}).get("content") or []
    return [each for token in content for each in token["top_logprobs"]]
