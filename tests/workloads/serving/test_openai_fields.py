"""Each field that OpenAI's own client can send is read, has a value that asks for nothing, or is refused on purpose."""

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as ChatFields
from openai.types.completion_create_params import CompletionCreateParamsStreaming as TextFields
from pydantic import ValidationError

from workloads.serving.openai.body import IGNORED, NEUTRAL
from workloads.serving.openai.requests import ChatRequest, CompletionRequest, TextRequest

QUESTION = {"role": "user", "content": "One?"}
REFUSED = {"audio", "moderation", "reasoning_effort", "web_search_options"}
"""Fields that change an answer in ways that llama.cpp does not have."""


@pytest.mark.parametrize(("fields", "kind"), [(ChatFields, ChatRequest), (TextFields, TextRequest)])
def test_no_field_of_the_client_is_overlooked(fields: type, kind: type[CompletionRequest]) -> None:
    sent = fields.__required_keys__ | fields.__optional_keys__
    assert len(sent) > 15
    assert sent - kind.model_fields.keys() - NEUTRAL.keys() - set(IGNORED) <= REFUSED


def test_an_earlier_refusal_is_the_text_of_its_answer() -> None:
    refused = {"role": "assistant", "content": None, "refusal": "I do not count."}
    chat = ChatRequest.model_validate({"model": "m", "messages": [QUESTION, refused, QUESTION]})
    assert chat.messages[1].runtime_message == {"role": "assistant", "content": "I do not count."}
    with pytest.raises(ValidationError, match="a refusal is one of the assistant, not of role user"):
        ChatRequest.model_validate({"model": "m", "messages": [{**QUESTION, "refusal": "No."}]})
