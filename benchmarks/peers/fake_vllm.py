"""Streams of chat completions as vLLM writes them, on a Unix socket and on a port: fake_vllm.py SOCKET PORT PER_SECOND

It computes nothing, so that it makes more events per second than a model on a processor does.
"""

import asyncio
import json
import sys

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
COMMON = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}


async def main(path: str, port: str, per_second: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await _answer(await reader.readexactly(_length(head)), writer, 1 / float(per_second))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    servers = (
        await asyncio.start_unix_server(answer, path),
        await asyncio.start_server(answer, "127.0.0.1", int(port)),
    )
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def _answer(body: bytes, writer: asyncio.StreamWriter, seconds: float) -> None:
    asked = json.loads(body) if body else {}
    if not asked.get("stream"):  # LiteLLM asks for models
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        return
    writer.write(HEAD)
    tokens = asked["max_tokens"]
    for number in range(tokens):
        _write(writer, [_choice(" word", "length" if number == tokens - 1 else None)])
        await writer.drain()
        await asyncio.sleep(seconds)
    if (asked.get("stream_options") or {}).get("include_usage"):
        _write(writer, [], {"prompt_tokens": 6, "total_tokens": 6 + tokens, "completion_tokens": tokens})
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await writer.drain()


def _choice(text: str, reason: str | None) -> dict[str, object]:
    return {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": reason, "token_ids": None}


def _write(writer: asyncio.StreamWriter, choices: list[dict[str, object]], usage: object = None) -> None:
    more = {} if usage is None else {"usage": usage}
    event = b"data: " + json.dumps({**COMMON, "choices": choices, **more}, separators=(",", ":")).encode() + b"\n\n"
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


def _length(head: bytes) -> int:
    lengths = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    return int(lengths[0].partition(b":")[2]) if lengths else 0


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
