"""The refusal of log-probabilities of prompts by a server with adapters whose vLLM computes on processors.

vLLM 0.32 for processors ends at such a request if its step has another text, too: `bgmv_shrink` gets a row for each
token of the prompt, and the index of one adapter for each text. Source: vllm/lora/punica_wrapper/punica_cpu.py and
vllm/lora/ops/torch_ops/lora_ops.py.
"""

import json
from typing import Any

from workloads.serving.answers import HttpError
from workloads.serving.offload import check_json
from workloads.serving.settings import ServingSettings

CHATS = ("/v1/chat/completions", "/v1/chat/completions/batch")
PATHS = (*CHATS, "/v1/completions")
"""Routes with a field for log-probabilities of the prompt."""
REASON = (
    "vLLM for processors ends if a server with adapters gives log-probabilities of prompts (prompt_logprobs, or echo"
    " with logprobs); ask a server without adapters"
)


def ends_at_prompt_logprobs(settings: ServingSettings) -> bool:
    """Return whether vLLM would end at log-probabilities of a prompt; a server of one text at a time never does."""
    vllm = settings.vllm
    return vllm.cpu_cache_gib is not None and vllm.has_adapters and settings.parallel > 1


def refuse_prompt_logprobs(content: bytes, path: str) -> None:
    """Return if the body *content* of a request for *path* asks for no log-probabilities of its prompt.

    Raises:
        HttpError: 400 if it does, or if there are too many values to parse.
    """
    if path not in PATHS:
        return
    if too_much := check_json(content):
        raise HttpError(400, f"the body: {too_much}")
    try:
        # the parser of vLLM itself: another one refuses what this one accepts, such as half a surrogate
        request = json.loads(content)
    except (ValueError, RecursionError):
        return  # vLLM's own error answers it
    if isinstance(request, dict) and (field := _field(request, path)):
        raise HttpError(400, REASON, param=field, code="unsupported_parameter")


def _field(request: dict[str, Any], path: str) -> str | None:
    """Return the field of *request* that asks for log-probabilities of the prompt. Source: to_sampling_params, vLLM."""
    if request.get("prompt_logprobs") is not None:
        return "prompt_logprobs"
    # in a chat, echo alone asks for them: top_logprobs is 0 by default
    wanted = request.get("top_logprobs", 0) if path in CHATS else request.get("logprobs")
    return "echo" if request.get("echo") not in (None, False) and wanted is not None else None
