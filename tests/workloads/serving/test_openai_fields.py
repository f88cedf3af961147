"""Each field that OpenAI's own client can send is read, has a value that asks for nothing, or is refused on purpose."""

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as ChatFields
from openai.types.completion_create_params import CompletionCreateParamsStreaming as TextFields

from workloads.serving.openai.body import IGNORED, NEUTRAL
from workloads.serving.openai.requests import ChatRequest, CompletionRequest, TextRequest

REFUSED = {"audio", "moderation", "reasoning_effort", "web_search_options"}
"""Fields that change an answer in ways that llama.cpp does not have."""


@pytest.mark.parametrize(("fields", "kind"), [(ChatFields, ChatRequest), (TextFields, TextRequest)])
def test_no_field_of_the_client_is_overlooked(fields: type, kind: type[CompletionRequest]) -> None:
    sent = fields.__required_keys__ | fields.__optional_keys__
    assert len(sent) > 15
    assert sent - kind.model_fields.keys() - NEUTRAL.keys() - set(IGNORED) <= REFUSED
