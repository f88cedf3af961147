"""Texts that are written at once, wait, meet their time limits, or are left by their clients."""

import pytest

from tests.support.chat_streams import CHAT, HELLO, Stream, body, events
from tests.support.model_servers import (
    DAILY,
    Background,
    Writer,
    ask,
    daily_key,
    eventually,
    here,
    leaving,
    paid_tokens,
)
from workloads.serving.keys import Keys


def test_several_are_written_at_once_and_beyond_the_queue_is_429() -> None:
    runtime, background = Writer(), Background()
    with here(runtime, parallel=2, queue=1) as server:
        for _ in range(3):
            background.ask(server.address, CHAT, body(HELLO))
        for _ in range(2):
            assert runtime.began.acquire(timeout=60)
        eventually(lambda: server.figure("rackwright_server_queue_requests") == 1)
        assert server.figure("rackwright_server_writing_requests") == 2
        full = ask(server.address, CHAT, body(HELLO))
        for _ in range(9):
            runtime.go.release()
        assert [answer.status for answer in background.all()] == [200] * 3

    assert full.status == 429
    assert int(full.headers["retry-after"]) >= 1
    assert (full.json["error"]["type"], full.json["error"]["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert len(runtime.asked) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_no_first_token_in_time_is_a_400_that_no_client_repeats(stream: bool) -> None:
    runtime = Writer()
    with here(runtime, parallel=1, deadline_seconds=0.2) as server:
        late = ask(server.address, CHAT, body(HELLO, stream=stream))
        waited = ask(server.address, CHAT, body(HELLO, stream=stream))
        runtime.go.release()
        assert runtime.left.acquire(timeout=60), "the model stops at its next word"
        for _ in range(3):
            runtime.go.release()
        assert ask(server.address, CHAT, body(HELLO)).status == 200

    assert (late.status, late.json["error"]["code"]) == (400, "deadline_exceeded")
    assert late.json["error"]["message"].startswith("no first token within 0.2 s; ")
    assert server.requests[0]["reason"] == "deadline_exceeded"
    assert waited.status == 429, "a request that has not begun may be repeated"
    assert waited.json["error"]["message"].startswith("no slot became free in time; come back in ")
    assert int(waited.headers["retry-after"]) >= 1
    assert len(runtime.asked) == 2, "the request that waited in vain was not begun"


def test_a_first_token_that_other_texts_delay_is_a_503() -> None:
    """
    The first text still has its slot when the second one is late.
    """
    runtime = Writer()
    with here(runtime, parallel=2, deadline_seconds=0.2) as server:
        assert ask(server.address, CHAT, body(HELLO)).status == 400, "it was alone"
        late = ask(server.address, CHAT, body(HELLO))
    assert (late.status, late.json["error"]["code"]) == (503, "deadline_exceeded")
    assert int(late.headers["retry-after"]) >= 1


def test_a_server_whose_model_does_not_end_an_abandoned_text_is_not_ready() -> None:
    runtime = Writer()
    with here(runtime, parallel=1, deadline_seconds=0.2) as server:
        assert ask(server.address, "/ready").status == 200
        assert ask(server.address, CHAT, body(HELLO)).status == 400
        eventually(lambda: ask(server.address, "/ready").status == 503)
        assert ask(server.address, "/health").status == 200
        runtime.go.release()
        eventually(lambda: ask(server.address, "/ready").status == 200)


@pytest.mark.parametrize("stream", [False, True])
def test_after_the_first_token_the_deadline_is_over(stream: bool) -> None:
    runtime, background = Writer(), Background()
    with here(runtime, deadline_seconds=2) as server:
        background.ask(server.address, CHAT, body(HELLO, stream=stream))
        assert runtime.began.acquire(timeout=60)
        runtime.go.release()
        assert runtime.wrote.acquire(timeout=60)
        late = ask(server.address, CHAT, body(HELLO))
        for _ in range(9):
            runtime.go.release()
        [answer] = background.all()

    assert late.status == 503, "more than 2 s have passed"
    assert answer.status == 200
    assert b" three" in answer.content


@pytest.mark.parametrize("stream", [False, True])
def test_at_the_time_limit_the_text_so_far_is_the_answer(stream: bool) -> None:
    runtime, limit = Writer(), "stream_seconds" if stream else "answer_seconds"
    with here(runtime, parallel=1, **{limit: 0.5}) as server:
        background = Background()
        background.ask(server.address, CHAT, body(HELLO, stream=stream))
        assert runtime.began.acquire(timeout=60)
        runtime.go.release()
        [answer] = background.all()
        runtime.go.release()
        assert runtime.left.acquire(timeout=60), "the model stops at its next word"
        eventually(lambda: server.requests)
        [line] = server.requests

    assert answer.status == 200
    if stream:
        *chunks, done = events(answer)
        assert done == "data: [DONE]"
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    else:
        [choice] = answer.json["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("one", "length")
        assert answer.json["usage"] == {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    assert (line["finish"], line["tokens"]) == ("length", 1)


@pytest.mark.parametrize("words", [0, 1])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_pays_for_its_prompt_and_for_the_tokens_so_far(stream: bool, words: int) -> None:
    runtime = Writer()
    with here(runtime, Keys([daily_key(runtime.prompt_tokens)])) as server:
        with leaving(server.address, CHAT, body(HELLO, stream=stream)):
            assert runtime.began.acquire(timeout=60)
            eventually(lambda: paid_tokens(server) == (runtime.prompt_tokens, 0))
            for _ in range(words):
                runtime.go.release()
                assert runtime.wrote.acquire(timeout=60)
        eventually(lambda: any(line["path"] == CHAT for line in server.requests))
        runtime.go.release()
        assert runtime.left.acquire(timeout=60), "the word that the model was writing"
        eventually(lambda: paid_tokens(server) == (runtime.prompt_tokens, words + 1))
        assert ask(server.address, CHAT, body(HELLO), DAILY).status == 429


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_while_it_is_written_frees_its_place(stream: bool) -> None:
    runtime = Writer()
    with here(runtime, parallel=1) as server:
        client = Stream(server, body(HELLO, stream=stream))
        runtime.go.release()
        if stream:
            client.until(b'"one"')
        else:
            assert runtime.began.acquire(timeout=60)
            eventually(lambda: server.figure("rackwright_server_writing_requests") == 1)
        client.go()
        eventually(lambda: any(line["path"] == CHAT for line in server.requests))
        runtime.go.release()
        assert runtime.left.acquire(timeout=60)
        for _ in range(3):
            runtime.go.release()
        assert ask(server.address, CHAT, body(HELLO)).status == 200
        [gone] = [line for line in server.requests if line.get("finish") == "left"]

    assert gone["status"] == (200 if stream else 499)
    assert len(runtime.asked) == 2


def test_a_client_that_goes_while_it_waits_is_not_begun_with() -> None:
    runtime, background = Writer(), Background()
    with here(runtime, parallel=1) as server:
        background.ask(server.address, CHAT, body(HELLO))
        assert runtime.began.acquire(timeout=60)
        client = Stream(server, body(HELLO, stream=True))
        eventually(lambda: server.figure("rackwright_server_queue_requests") == 1)
        client.go()
        eventually(lambda: server.figure("rackwright_server_queue_requests") == 0)
        for _ in range(3):
            runtime.go.release()
        assert [answer.status for answer in background.all()] == [200]

    assert len(runtime.asked) == 1


def test_a_model_that_fails_is_500_and_amid_a_stream_an_event() -> None:
    with here(Writer("fail", free=True)) as server:
        whole, stream = (ask(server.address, CHAT, body(HELLO, stream=stream)) for stream in (False, True))
    with here(Writer("one", "fail", free=True)) as server:
        client = Stream(server, body(HELLO, stream=True))
        rest = client.rest()
        client.go()
        eventually(lambda: server.requests)

    assert b'{"error":{"message":"the server failed with RuntimeError; see its log","type":"server_error"' in rest
    assert b"[DONE]" not in rest
    assert server.requests[0]["reason"] == "failed"
    assert whole.status == stream.status == 500
    assert whole.headers["connection"] == "close", "the server closes it, so no client may use it again"
    assert stream.json["error"]["message"] == "the server failed with RuntimeError; see its log"


def test_asked_to_stop_it_writes_streams_to_their_end() -> None:
    runtime = Writer()
    with here(runtime) as server:
        stream = Stream(server, body(HELLO, stream=True))
        runtime.go.release()
        stream.until(b'"one"')
        server.terminate()
        eventually(lambda: server.server.should_exit)
        for _ in range(2):
            runtime.go.release()
        stream.until(b"[DONE]")
        eventually(server.ended)
        stream.go()
