"""SmolLM2, published, served with a key, and asked by OpenAI's own client: what came, and when, as JSON.

$(rackwright toolchain workloads) -m tests.support.models.talk DIRECTORY
"""

import json
import secrets
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai

from tests.support.model_servers import Process, served
from tests.support.models.smollm2 import NAME, gguf
from workloads.serving.gguf import publish_gguf

STORY = [{"role": "user", "content": "Tell a long story of a rack of machines."}]


def talk(directory: Path) -> dict[str, Any]:
    key = secrets.token_urlsafe(32)
    line = {"name": "app", "sha256": sha256(key.encode()).hexdigest(), "scopes": ["infer", "read"]}
    (directory / "keys.json").write_text(json.dumps([line]))
    model = publish_gguf(gguf(), NAME, None, directory / NAME)
    with served(directory / NAME, f"keys={directory / 'keys.json'}", "deadline_seconds=300") as server:
        try:
            _client(server, "wrong").models.list()
        except openai.AuthenticationError as error:
            refused = error.code
        content = {"version": model.version, "refused": refused, **_stream_completion(_client(server, key))}
        status = server.end()
    return {**content, "log": server.requests[-1], "status": status}


def _client(server: Process, key: str) -> openai.OpenAI:
    host, port = server.address
    return openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key=key, max_retries=0, timeout=300)


def _stream_completion(client: openai.OpenAI) -> dict[str, Any]:
    began, came, text = time.monotonic(), [], ""
    asked = {"model": NAME, "messages": STORY, "max_tokens": 120, "temperature": 0}
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        if chunk.choices and chunk.choices[0].delta.content:
            came.append(time.monotonic() - began)
            text += chunk.choices[0].delta.content
        usage, fingerprint = chunk.usage, chunk.system_fingerprint
    whole = client.chat.completions.create(**asked)
    return {
        "came": came, "tokens": usage.completion_tokens, "answered_by": fingerprint,
        "same_as_whole": whole.choices[0].message.content == text,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(talk(Path(sys.argv[1]))))
