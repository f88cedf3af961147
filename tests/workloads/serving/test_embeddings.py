"""The route of an embedding model: vectors in both forms, and what is refused."""

import base64
import json
import struct
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.model_servers import DAILY, Here, ask, daily_key, eventually, here, leaving, paid_tokens
from workloads.serving.gguf import POOLINGS
from workloads.serving.keys import Keys
from workloads.serving.model import Model
from workloads.serving.runtimes.runtime import Embeddings, InvalidPrompt
from workloads.serving.settings import ServingSettings

ROUTE = "/v1/embeddings"


class Encoding:
    """An embedding model whose vectors are the lengths of the texts."""

    description = "a test"
    model = Model(name="held", version="1", runtime="llama.cpp", files={})

    def embed(self, texts: Sequence[str]) -> Embeddings:
        if "too long" in texts:
            raise InvalidPrompt("a text has more tokens than context_tokens", "context_length_exceeded")
        return Embeddings([[len(text), 0.5] for text in texts], 3 * len(texts))


@pytest.fixture
def server():
    with here(Encoding()) as server:
        yield server


def body(**more: Any) -> bytes:
    return json.dumps({"model": "held", "input": ["a", "four"], **more}).encode()


def test_each_text_has_its_vector(server: Here) -> None:
    report = ask(server.address, ROUTE, body(user="lea")).json

    assert report == {
        "object": "list", "model": "held", "usage": {"prompt_tokens": 6, "total_tokens": 6},
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0, 0.5]},
                 {"object": "embedding", "index": 1, "embedding": [4.0, 0.5]}],
    }  # fmt: skip
    assert server.requests[-1]["prompt_tokens"] == 6
    assert "four" not in json.dumps(server.log)


def test_base64_has_the_same_numbers(server: Here) -> None:
    [row] = ask(server.address, ROUTE, body(input="four", encoding_format="base64")).json["data"]
    assert struct.unpack("<2f", base64.b64decode(row["embedding"])) == (4.0, 0.5)


@pytest.mark.parametrize(
    ("path", "more", "status", "reason"),
    [
        (ROUTE, {"input": []}, 400, "input: List should have at least 1 item"),
        (ROUTE, {"input": [""]}, 400, "input.0: String should have at least 1 character"),
        (ROUTE, {"input": ["a"] * 257}, 400, "input: List should have at most 256 items"),
        (ROUTE, {"input": [[1, 2]]}, 400, "input: tokens mean something to one model alone; send texts"),
        (ROUTE, {"input": [1, 2]}, 400, "input: tokens mean something to one model alone; send texts"),
        (ROUTE, {"dimensions": 8}, 400, "dimensions: unknown field"),
        (ROUTE, {"encoding_format": "int8"}, 400, "encoding_format: Input should be 'float' or 'base64'"),
        (ROUTE, {"input": "too long"}, 400, "input: a text has more tokens than context_tokens"),
        (ROUTE, {"model": "other"}, 404, "no model other here"),
        ("/v1/chat/completions", {}, 404, "held is an embedding model, which has /v1/embeddings alone"),
        ("/v1/completions", {}, 404, "held is an embedding model, which has /v1/embeddings alone"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    server: Here, path: str, more: dict[str, Any], status: int, reason: str
) -> None:
    answer = ask(server.address, path, body(**more))
    assert (answer.status, answer.json["error"]["message"][: len(reason)]) == (status, reason)


def test_the_model_is_listed_and_described(server: Here) -> None:
    assert ask(server.address, "/v1/models").json["data"][0]["id"] == "held"
    document = ask(server.address, "/openapi.json").json
    assert document["components"]["schemas"]["EmbeddingRequest"]["properties"]["model"]["enum"] == ["held"]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_of_a_published_model_is_a_setting(pooling: str) -> None:
    assert ServingSettings.model_validate({"embeddings": pooling}).embeddings == pooling


class HeldEncoding(Encoding):
    """The same, which computes once a test lets it."""

    def __init__(self) -> None:
        self.began, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.began.release()
        assert self.go.acquire(timeout=60)
        return super().embed(texts)


def test_a_client_that_leaves_pays_for_the_texts_that_are_computed() -> None:
    runtime = HeldEncoding()
    with here(runtime, Keys([daily_key(6)])) as server:
        with leaving(server.address, ROUTE, body()):
            assert runtime.began.acquire(timeout=60)
        eventually(lambda: server.requests)
        assert server.requests[-1]["status"] == 499
        runtime.go.release()
        eventually(lambda: paid_tokens(server) == (6, 0))
        assert ask(server.address, ROUTE, body(), DAILY).status == 429
        [late] = [line for line in server.log if line["event"] == "late_tokens"]
        assert (late["key"], late["prompt_tokens"]) == ("daily", 6)
