"""The further options of `vllm serve` that a server may have: their names, and the form of each value.

An option is here after a look at what it does in vLLM 0.32: none loads code, opens a listener, reads or writes a file
for clients, sends elsewhere, or writes what clients ask into a log. A key of its object may follow after a dot.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

OptionValue = bool | int | float | str | dict[str, object] | list[object]
Check = Callable[[object], bool]

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*(\.[a-z0-9_.-]+)?")
"""Names of options, as `vllm serve --help` lists them without the two hyphens."""
MOST_KEYS = 64
"""The most entries of a list or object."""


@dataclass(frozen=True)
class Form:
    """The form of an option's value."""

    description: str
    check: Check


def _text(pattern: str) -> Check:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) <= MOST_KEYS and all(map(check, value))


def _object_of(check: Check) -> Check:
    """Return the check of an object of values that pass *check*, under any names."""
    is_key = _text(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
    return lambda value: (
        isinstance(value, dict)
        and len(value) <= MOST_KEYS
        and all(is_key(key) and check(each) for key, each in value.items())
    )


def _object(**keys: Check) -> Check:
    """Return the check of an object that has some of *keys* and no other."""
    return lambda value: (
        isinstance(value, dict) and all(name in keys and keys[name](each) for name, each in value.items())
    )


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63


# a text with a unit, as vLLM's parser takes it: 16k, 1.5M
_is_number = _either(_is_finite, _text(r"-?[0-9]{1,18}(\.[0-9]{1,9})?[kKmMgG]?"))
_is_word = _text(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,63}")
_is_numbers, _is_words = _list_of(_is_number), _list_of(_is_word)
_is_value = _either(_is_switch, _is_number, _is_word)
_is_phrase = _text(r"[^\x00-\x1f\x7f-\x9f]{0,512}")
_is_model = _text(r"/[A-Za-z0-9._/-]{1,200}")

SWITCH = Form("true or false", _is_switch)
NUMBER = Form("a number, or one with a unit such as 16k", _is_number)
NUMBERS = Form("a list of numbers", _is_numbers)
WORD = Form("a name of vLLM's own, without dots and slashes", _is_word)
DOMAINS = Form("the name of a host, or a list of them", _either(*(
    each(_text(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")) for each in (lambda check: check, _list_of)
)))  # fmt: skip
VALUES = Form("an object of numbers, switches and names", _object_of(_either(_is_value, _is_numbers, _is_words)))
PER_MEDIUM = Form(
    "an object of numbers, by medium", _object_of(_either(_is_number, _object_of(_either(_is_number, _is_switch))))
)
TEMPLATE = Form(
    "an object of numbers, switches and short texts", _object_of(_either(_is_switch, _is_number, _is_phrase))
)
MODEL = Form(
    "an object of numbers, switches and names, also in objects and lists",
    _object_of(_either(_is_value, _is_numbers, _is_words, _object_of(_either(_is_value, _is_numbers, _is_words)))),
)
COMPILATION = Form(
    "an object with mode, cudagraph_mode, cudagraph_capture_sizes, max_cudagraph_capture_size, compile_sizes, "
    "custom_ops, use_inductor_graph_partition and pass_config",
    _object(
        mode=_either(_is_number, _is_word),
        cudagraph_mode=_either(_is_number, _is_word),
        cudagraph_capture_sizes=_is_numbers,
        max_cudagraph_capture_size=_is_number,
        compile_sizes=_is_numbers,
        custom_ops=_list_of(_text(r"[+-]?[a-z0-9_]{1,64}")),
        use_inductor_graph_partition=_is_switch,
        pass_config=_object_of(_either(_is_switch, _is_number)),
    ),
)
DRAFT = Form(
    "an object with method, model as the path of a directory, and numbers",
    _object(
        method=_text("ngram|ngram_gpu|eagle|eagle3|medusa|mlp_speculator|draft_model|suffix|mtp|deepseek_mtp"),
        model=_is_model,
        quantization=_is_word,
        disable_padded_drafter_batch=_is_switch,
        parallel_drafting=_is_switch,
        **dict.fromkeys(
            (
                "num_speculative_tokens", "draft_tensor_parallel_size", "max_model_len", "prompt_lookup_max",
                "prompt_lookup_min", "disable_by_batch_size", "suffix_decoding_max_tree_depth",
                "suffix_decoding_max_cached_requests", "suffix_decoding_max_spec_factor",
                "suffix_decoding_min_token_prob",
            ),
            _is_number,
        ),
    ),
)  # fmt: skip
STRUCTURE = Form(
    "an object with backend, disable_any_whitespace, disable_additional_properties, disable_fallback and "
    "enable_in_reasoning",
    _object(
        backend=_is_word, disable_any_whitespace=_is_switch, disable_additional_properties=_is_switch,
        disable_fallback=_is_switch, enable_in_reasoning=_is_switch,
    ),
)  # fmt: skip

BY_FORM: Mapping[Form, str] = {
    SWITCH: """
        allow-deprecated-quantization async-scheduling disable-cascade-attn disable-chunked-mm-input
        disable-custom-all-reduce disable-hybrid-kv-cache-manager disable-log-stats
        disable-nccl-for-dp-synchronization disable-sliding-window enable-batch-sharded-sampling enable-chunked-prefill
        enable-cumem-allocator enable-dbo enable-ep-weight-filter enable-eplb enable-flashinfer-autotune
        enable-mamba-cache-stochastic-rounding enable-mixed-moe-lora-format enable-moe-shared-loras
        enable-prompt-tokens-details enable-server-load-tracking enable-tower-connector-lora enforce-eager
        exclude-tools-when-tool-choice-none fully-sharded-loras kv-cache-metrics kv-sharing-fast-prefill
        language-model-only mm-encoder-only numa-bind scheduler-reserve-full-isl skip-mm-profiling
        specialize-active-lora
    """,
    NUMBER: """
        block-size cp-kv-cache-interleave-size cpu-distributed-timeout-seconds cpu-offload-gb
        dbo-decode-token-threshold dbo-prefill-token-threshold dcp-kv-cache-interleave-size distributed-timeout-seconds
        kv-cache-memory-bytes kv-cache-metrics-sample long-prefill-token-threshold mamba-block-size max-cpu-loras
        max-cudagraph-capture-size max-logprobs max-num-active-seqs max-num-batched-tokens max-num-queued-reqs
        max-num-queued-tokens max-num-scheduled-tokens max-parallel-loading-workers mm-processor-cache-gb
        mm-shm-cache-max-object-size-mb num-gpu-blocks-override offload-group-size offload-num-in-group
        offload-prefetch-step optimization-level prefill-schedule-interval renderer-num-workers
        safetensors-prefetch-block-size safetensors-prefetch-num-threads seed shutdown-timeout
        sse-keep-alive-interval stream-interval ubatch-size video-pruning-rate
    """,
    NUMBERS: "cudagraph-capture-sizes",
    WORD: """
        all2all-backend attention-backend chat-template-content-format config-format convert dcp-comm-backend dtype
        expert-placement-strategy gdn-prefill-backend kda-decode-backend kda-prefill-backend linear-backend
        logprobs-mode lora-dtype mamba-backend mamba-cache-dtype mamba-cache-mode mamba-ssm-cache-dtype
        mm-encoder-attn-backend mm-encoder-tp-mode mm-processor-cache-type mm-tensor-ipc model-impl moe-backend
        offload-backend performance-mode prefix-caching-hash-algo quantization response-role runner
        safetensors-load-strategy scheduling-policy sparse-indexer-topk-backend tokenizer-mode video-pruning-method
    """,
    DOMAINS: "allowed-media-domains",
    VALUES: "attention-config eplb-config kernel-config mm-processor-kwargs override-generation-config pooler-config",
    PER_MEDIUM: "limit-mm-per-prompt media-io-kwargs",
    TEMPLATE: "default-chat-template-kwargs",
    MODEL: "hf-overrides",
    COMPILATION: "compilation-config",
    DRAFT: "speculative-config",
    STRUCTURE: "structured-outputs-config",
}
FORMS: Mapping[str, Form] = {name: form for form, names in BY_FORM.items() for name in names.split()}
OURS = (
    "host", "port", "uds", "ssl", "api-key", "api-server-count", "headless", "root-path", "model", "served-model-name",
    "tokenizer", "tensor-parallel-size", "pipeline-parallel-size", "decode-context-parallel-size",
    "prefill-context-parallel-size", "data-parallel", "enable-expert-parallel", "nnodes", "node-rank", "master-addr",
    "master-port", "distributed-executor-backend", "device-ids", "max-model-len", "max-num-seqs", "load-format",
    "gpu-memory-utilization", "device-memory-utilization", "kv-cache-dtype", "reasoning-parser", "tool-call-parser",
    "enable-auto-tool-choice", "enable-prefix-caching", "enable-lora", "max-lora-rank", "max-loras", "lora-modules",
    "enable-log-requests", "disable-log-requests", "uvicorn-log-level", "disable-uvicorn-access-log", "config",
    "kv-transfer-config", "kv-offloading-size", "kv-offloading-backend",
)  # fmt: skip
"""Options that follow from other settings, and beginnings of such."""
SPECULATIVE = ("speculative-config",)
"""The same, if the model's own layers propose tokens."""
PROCESSORS = ("compilation-config", "enforce-eager", "optimization-level")
"""The same, if processors compute."""


def option_problem(name: str, value: OptionValue, others: tuple[str, ...] = ()) -> str | None:
    """Return why a further option of vLLM cannot be *name* with *value*; None if it can.

    Args:
        others: Options that follow from other settings as those of ``OURS`` do.
    """
    if not NAME.fullmatch(name):
        return f"option {name!r} is not a name like max-num-batched-tokens"
    whole, dot, key = name.partition(".")
    plain = whole.removeprefix("no-")
    if plain in others or (plain not in FORMS and any(_names(plain, each) for each in OURS)):
        return f"option {name} follows from other settings"
    form = FORMS.get(plain)
    if form is None or (plain != whole and form is not SWITCH):
        return f"option {name} is none of docs/reference/vllm-options.md"
    for each in reversed(key.split(".") if dot else ()):
        value = {each: value}
    return None if form.check(value) else f"option {name} is {form.description}"


def _names(name: str, option: str) -> bool:
    """Return whether *name* is *option*, its beginning, or one of the options that begin with it."""
    return option.startswith(name) or name == option or name.startswith(f"{option}-")
