"""Requests of OpenAI's routes, and the streams that answer them."""

import json
import socket
from typing import Any

from tests.support.model_servers import (
    Answer,
    Here,
)

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = {"model": "held", "messages": [{"role": "user", "content": "Hello"}]}
ONCE = {"model": "held", "prompt": "Once"}


def body(values: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({**values, **more}).encode()


def events(answer: Answer) -> list[Any]:
    """Return what a stream had, the last line but for its form."""
    *lines, end = answer.content.decode().split("\n\n")
    assert end == ""
    assert all(line.startswith("data: ") for line in lines)
    return [line if line == "data: [DONE]" else json.loads(line.removeprefix("data: ")) for line in lines]


class Stream:
    """A client that reads a stream line by line, and may go."""

    def __init__(self, server: Here, content: bytes, path: str = CHAT) -> None:
        self._socket = socket.create_connection(server.address, timeout=60)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        self._socket.sendall(head + content)
        self._file = self._socket.makefile("rb")

    def until(self, text: bytes) -> None:
        while text not in self._file.readline():
            pass

    def rest(self) -> bytes:
        return self._file.read()

    def go(self) -> None:
        self._file.close()
        self._socket.close()
