"""The refusal of requests at which vLLM for processors would end."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_servers import ask, here
from tests.workloads.serving.vllm_app import VllmApp
from workloads.serving.answers import HttpError
from workloads.serving.prompt_logprobs import CHATS, PATHS, ends_at_prompt_logprobs, refuse_prompt_logprobs
from workloads.serving.settings import ServingSettings

CHAT, TEXT = CHATS[0], "/v1/completions"
ADAPTERS = {"adapted": {"directory": "/srv/adapted", "sha256": "0" * 64}}


def settings(parallel: int = 4, **vllm: Any) -> ServingSettings:
    return ServingSettings.model_validate({"parallel": parallel, "vllm": vllm})


def test_only_a_vllm_on_processors_with_adapters_and_several_texts_ends() -> None:
    assert ends_at_prompt_logprobs(settings(cpu_cache_gib=1, adapters=ADAPTERS))
    assert not ends_at_prompt_logprobs(settings(cpu_cache_gib=1))
    assert not ends_at_prompt_logprobs(settings(adapters=ADAPTERS))
    assert not ends_at_prompt_logprobs(settings(parallel=1, cpu_cache_gib=1, adapters=ADAPTERS))


@pytest.mark.parametrize(
    ("path", "request_fields", "field"),
    [
        (CHAT, {"prompt_logprobs": 0}, "prompt_logprobs"),
        (CHATS[1], {"prompt_logprobs": 1}, "prompt_logprobs"),
        (TEXT, {"prompt_logprobs": 1}, "prompt_logprobs"),
        (TEXT, {"echo": True, "logprobs": 0}, "echo"),
        (TEXT, {"echo": True, "logprobs": 1, "stop": "\ud800"}, "echo"),
        (CHAT, {"echo": True}, "echo"),  # vLLM's own default of top_logprobs is 0, and not none
        (CHAT, {"echo": "yes", "top_logprobs": 1}, "echo"),
        (CHAT, {"echo": True, "top_logprobs": None}, None),
        (CHAT, {"logprobs": True, "top_logprobs": 2}, None),
        (CHAT, {"echo": False, "prompt_logprobs": None}, None),
        (TEXT, {"echo": True}, None),
        (TEXT, {"logprobs": 2, "echo": False}, None),
        ("/tokenize", {"prompt_logprobs": 1}, None),
    ],
)
def test_a_request_for_log_probabilities_of_the_prompt_is_refused(
    path: str, request_fields: dict[str, Any], field: str | None
) -> None:
    content = json.dumps(request_fields).encode()
    if field is None:
        refuse_prompt_logprobs(content, path)
        return
    with pytest.raises(HttpError) as caught:
        refuse_prompt_logprobs(content, path)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, field, "unsupported_parameter")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"1", b"[" * 60000])
def test_a_body_that_vllm_has_to_judge_is_not_refused(content: bytes) -> None:
    for path in PATHS:
        refuse_prompt_logprobs(content, path)


def test_the_server_answers_instead_of_vllm(tmp_path: Path) -> None:
    body = json.dumps({"model": "held", "prompt": ["a", "b"], "echo": True, "logprobs": 1}).encode()
    with VllmApp(tmp_path / "socket").running() as vllm:
        with here(vllm, vllm={"cpu_cache_gib": 1, "adapters": ADAPTERS}) as server:
            refused = ask(server.address, TEXT, body)
        assert vllm.requests == []
        with here(vllm, vllm={"cpu_cache_gib": 1}) as server:
            assert ask(server.address, TEXT, body).status == 200
    error = refused.json["error"]
    assert refused.status == 400
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "echo", "unsupported_parameter")
    assert "ask a server without adapters" in error["message"]
