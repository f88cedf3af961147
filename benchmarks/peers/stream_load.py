"""Streams of chat completions, all at once: stream_load.py WHERE STREAMS TOKENS; WHERE is a port or a Unix socket.

Prints one line of JSON: tokens, seconds, and the milliseconds to the first token of each stream. The key is in
VLLM_API_KEY.
"""

import asyncio
import json
import os
import sys
import time

import aiohttp


async def main(where: str, streams: str, tokens: str) -> None:
    connector = aiohttp.TCPConnector(limit=0) if where.isdecimal() else aiohttp.UnixConnector(where, limit=0)
    url = f"http://127.0.0.1:{where if where.isdecimal() else 80}/v1/chat/completions"
    headers = {"authorization": f"Bearer {os.environ.get('VLLM_API_KEY', 'none')}"}
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(None)
    ) as session:
        began = time.monotonic()
        found = await asyncio.gather(*(_stream(session, url, number, int(tokens)) for number in range(int(streams))))
        seconds = time.monotonic() - began
    first = [each[0] for each in found]
    print(json.dumps({"tokens": sum(each[1] for each in found), "seconds": seconds, "first_ms": first}))


async def _stream(session: aiohttp.ClientSession, url: str, number: int, tokens: int) -> tuple[float, int]:
    """Return the milliseconds to the first token of a stream, and the number of its events with text."""
    body = {
        "model": "tiny", "messages": [{"role": "user", "content": f"{number}: def main"}], "max_tokens": tokens,
        "stream": True, "temperature": 0, "ignore_eos": True,
    }  # fmt: skip
    began, first, events = time.monotonic(), 0.0, 0
    async with session.post(url, json=body) as response:
        response.raise_for_status()
        async for line in response.content:
            if (b'"content":"' in line and b'"content":""' not in line) or b'"content": "' in line:
                first = first or 1000 * (time.monotonic() - began)
                events += 1
    return first, events


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
