"""Answers of simulated hosts to Prometheus: `python -m benchmarks.simulated_exporters DIRECTORY PORT`.

DIRECTORY has the certificates of role `metrics_proxy`, and `answer`, the text of one real host. Each path is a host.
Its counters grow with the time, and its gauges move a little, so that samples take as much space as real ones.
"""

import asyncio
import random
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PERCENT = 0.01
"""Largest move of a gauge between two answers, as a share."""


def parts(text: str) -> Iterator[tuple[str, float, bool]]:
    """Yield the series of *text* in their order: name and labels, value, and whether it is a counter."""
    counters: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            if kind == "counter":
                counters.add(name)
        elif line and not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            yield series, float(value), series.partition("{")[0] in counters


def render(series: list[tuple[str, float, bool]], seconds: float, chance: random.Random) -> str:
    """Return the answer of a host after *seconds*."""
    lines = []
    for name, value, is_counter in series:
        if is_counter:
            now = value + int(seconds * (1 + value / 1000) * chance.random())
        elif value and value == int(value) and abs(value) < 2:  # a state
            now = value
        else:
            now = value * (1 + PERCENT * (chance.random() - 0.5))
        lines.append(f"{name} {now:.10g}")
    return "\n".join([*lines, ""])


async def serve(directory: Path, port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    context.load_verify_locations(directory / "authority.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    series, began = [*parts((directory / "answer").read_text())], time.monotonic()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                host = request.split(b" ", 2)[1]
                body = render(series, time.monotonic() - began, random.Random(host)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\n")
                writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the server has closed it
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, ssl=context)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
