"""Ask SmolLM2 behind llama.cpp's front by OpenAI's client for JSON Schemas and for log-probabilities.

$(rackwright toolchain workloads) -m tests.support.openai_answers DIRECTORY
"""

import json
import sys
from pathlib import Path
from typing import Any

import openai

from tests.support.model_servers import served
from tests.support.models.smollm2 import NAME, gguf
from workloads.serving import gguf as publishing

PLACES = ("Paris", "Rome", "Oslo", "Bern")
TOKENS, ALTERNATIVES = 6, 3


def ask(directory: Path) -> dict[str, Any]:
    """Return how many answers have their schema, and how many tokens have log-probabilities that fit the text."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "README.md").write_text("Apache-2.0")
    argv = [str(gguf()), "--name", NAME, "--card", str(directory / "README.md"), "--out", str(directory / "published")]
    assert publishing.main(argv) == 0
    report = {"schemas": 0, "right schemas": 0, "tokens": 0, "right tokens": 0}
    with served(directory / "published", "parallel=2", "context_tokens=512", "deadline_seconds=300") as server:
        host, port = server.address
        client: Any = openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key="none", max_retries=0, timeout=300)
        for place in PLACES:
            messages = [{"role": "user", "content": f"What is {place}?"}]
            common = {"model": NAME, "messages": messages, "temperature": 0}
            shape = {"type": "object", "properties": {"place": {"const": place}, "big": {"type": "boolean"}},
                     "required": ["place", "big"], "additionalProperties": False}  # fmt: skip
            form = {"type": "json_schema", "json_schema": {"name": "place", "schema": shape, "strict": True}}
            answer = client.chat.completions.create(**common, max_tokens=64, response_format=form)
            found = json.loads(answer.choices[0].message.content)
            report["schemas"] += 1
            report["right schemas"] += found.keys() == {"place", "big"} and found["place"] == place
            chances = client.chat.completions.create(
                **common, max_tokens=TOKENS, logprobs=True, top_logprobs=ALTERNATIVES
            )
            tokens = chances.choices[0].logprobs.content
            report["tokens"] += TOKENS
            if "".join(token.token for token in tokens) == chances.choices[0].message.content:
                report["right tokens"] += sum(
                    len(token.top_logprobs) == ALTERNATIVES and token.logprob == token.top_logprobs[0].logprob <= 0
                    for token in tokens
                )
    return report


if __name__ == "__main__":
    print(json.dumps(ask(Path(sys.argv[1]))))
