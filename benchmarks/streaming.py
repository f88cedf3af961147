"""How soon and how fast text comes, from our server and from llama.cpp's own: `python -m benchmarks.streaming`, where
the workloads are.

Both serve SmolLM2 with the same llama.cpp, threads and memory for texts, in turns; OpenAI's client asks both, each time
for another text, alone and for as many at once as they write together.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai

from benchmarks import start
from benchmarks.peers.servers import HERE, Peer, ours, running
from benchmarks.serving import PORT, cpu
from tests.support.models.smollm2 import NAME, gguf
from workloads.serving.gguf import publish_gguf

ROUNDS, TEXTS, TOKENS = 3, 6, 120
PARALLEL, CONTEXT_TOKENS = 4, 512


def main() -> None:
    threads = max(1, (os.cpu_count() or 1) - 1)
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        scratch = Path(directory)
        publish_gguf(gguf(), NAME, None, scratch / NAME)
        changes = (f"threads={threads}", f"parallel={PARALLEL}", f"context_tokens={CONTEXT_TOKENS}")
        by_llama = (sys.executable, str(HERE / "by_llama.py"), str(gguf()), *map(str, (PORT, threads, PARALLEL)))
        servers = (
            ours(scratch / NAME, PORT, *changes),
            Peer("llama.cpp", (*by_llama, str(CONTEXT_TOKENS)), "/health", "/v1", "", {}),
        )
        results: dict[str, dict[str, list[float]]] = {}
        for number in range(ROUNDS):
            for server in servers if number % 2 == 0 else reversed(servers):
                with running(server, PORT, scratch / f"{server.name}.log"):
                    figures = measured(number)
                for name, value in figures.items():
                    results.setdefault(server.name, {}).setdefault(name, []).append(value)
    report(results, threads)


def measured(round_: int) -> dict[str, float]:
    """Return seconds to a first token and tokens per second, of one text alone and of several together."""
    stream(f"{round_} begins")  # what is read at the first one is there for all
    alone = [stream(f"{round_} {number} alone") for number in range(TEXTS)]
    began = time.monotonic()
    with ThreadPoolExecutor(PARALLEL) as pool:
        together = [*pool.map(stream, [f"{round_} {number} together" for number in range(PARALLEL * 2)])]
    seconds = time.monotonic() - began
    return {
        "first_seconds": statistics.median(each["first"] for each in alone),
        "per_second": statistics.median(each["per_second"] for each in alone),
        "together_per_second": sum(each["tokens"] for each in together) / seconds,
    }


def stream(which: str) -> dict[str, float]:
    """Have one text written, another for each *which*."""
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{PORT}/v1", api_key="none", max_retries=0, timeout=300)
    asked: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"{which}: tell a long story of a rack of machines."}],
        "max_tokens": TOKENS, "temperature": 0, "seed": 1,
    }  # fmt: skip
    began, first, tokens = time.monotonic(), 0.0, 0
    with client.chat.completions.create(
        model=NAME, stream=True, stream_options={"include_usage": True}, **asked
    ) as chunks:
        for chunk in chunks:
            if not first and chunk.choices and chunk.choices[0].delta.content:
                first = time.monotonic() - began
            if chunk.usage:
                tokens = chunk.usage.completion_tokens
    written = time.monotonic() - began - first
    return {"first": first, "tokens": tokens, "per_second": (tokens - 1) / written}


def report(results: dict[str, dict[str, list[float]]], threads: int) -> None:
    """Print the medians, and what share of llama.cpp's own ours are; the last line is for machines."""
    medians = {name: {key: statistics.median(each) for key, each in of.items()} for name, of in results.items()}
    print(f"{os.cpu_count()} cores, {threads} for each server, load {os.getloadavg()[0]:.1f}, {cpu()}; {ROUNDS} rounds")
    for name, of in medians.items():
        print(
            f"{name:<12} first token {1000 * of['first_seconds']:6.0f} ms   {of['per_second']:6.1f} tokens/s alone"
            f"   {of['together_per_second']:6.1f} for {PARALLEL} at once"
        )
    shares = {key: round(medians["rackwright"][key] / of, 3) for key, of in medians["llama.cpp"].items()}
    print(json.dumps({"medians": medians, "shares": shares}))


if __name__ == "__main__":
    start(main, (globals(), {"ROUNDS": 1, "TEXTS": 1, "TOKENS": 4, "PARALLEL": 1}))
