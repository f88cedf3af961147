"""Use up the quota of a key at two servers of one fleet by OpenAI's client, and stop, kill and fill them.

$(rackwright toolchain workloads) -m tests.support.quota_servers DIRECTORY
"""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai

from rackwright.schema.server import ServerKey
from tests.support.model_servers import Process, served
from tests.support.models.smollm2 import NAME, gguf
from workloads.serving import gguf as publishing

SERVERS, TOKENS = 2, 400
"""Servers that share one quota, and the tokens of a day."""
SECRET = "of-the-acceptance-line-alone-" + 8 * "x"


def use_up(directory: Path) -> dict[str, Any]:
    """Return the tokens of all answers, and the answers after a stop, a crash and a full drive."""
    directory.mkdir(parents=True, exist_ok=True)
    argv = [str(gguf()), "--name", NAME, "--out", str(directory / "published")]
    assert publishing.main(argv) == 0
    key = ServerKey(secret="app", tokens_per_day=TOKENS)
    report: dict[str, Any] = {"quota": TOKENS, "tokens": [], "largest": 0, "refused": []}
    with contextlib.ExitStack() as stack:
        for number in range(SERVERS):
            place = directory / str(number)
            place.mkdir()
            write_keys(place / "keys.json", **key.quotas_of(number, SERVERS))
            server = stack.enter_context(serve(directory, place))
            tokens = use(server)
            report["tokens"].append(sum(tokens))
            report["largest"] = max(report["largest"], *tokens)
            report["refused"].append(refusal(server))
            stop = signal.SIGKILL if number else signal.SIGTERM
            server.process.send_signal(stop)
            server.process.wait(60)
            with serve(directory, place) as again:
                report["refused"].append(refusal(again))
                report[f"warned after {stop.name}"] = [
                    line["reason"] for line in again.log if line["event"] == "quotas"
                ]
    with full_drive(directory / "full") as place:
        write_keys(place / "keys.json", tokens_per_day=TOKENS)
        with serve(directory, place) as server:
            (place / "rest").write_bytes(b"")
            fill(place / "rest")
            report["full"] = refusal(server)
            (place / "rest").unlink()
            report["freed"] = sum(use(server, most=1)) > 0
    return report


def serve(directory: Path, place: Path) -> contextlib.AbstractContextManager[Process]:
    settings = ("parallel=1", "context_tokens=256", "drain_seconds=0", "deadline_seconds=300")
    files = (f"keys={place / 'keys.json'}", f"quota_counts={place / 'counts.sqlite3'}")
    return served(directory / "published", *settings, *files)


def write_keys(path: Path, **quotas: int) -> None:
    entry = {"name": "app", "sha256": sha256(SECRET.encode()).hexdigest(), "scopes": ["infer", "read"], **quotas}
    path.write_text(json.dumps([entry]))


def client(server: Process) -> Any:
    host, port = server.address
    return openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key=SECRET, max_retries=0, timeout=300)


def talk(server: Process) -> Any:
    messages = [{"role": "user", "content": "Count."}]
    return client(server).chat.completions.create(model=NAME, messages=messages, max_tokens=16, temperature=0)


def use(server: Process, most: int = 1000) -> list[int]:
    """Return the tokens of each answer until the server refuses the key, or of *most* answers."""
    tokens: list[int] = []
    with contextlib.suppress(openai.RateLimitError):
        while len(tokens) < most:
            tokens.append(talk(server).usage.total_tokens)
    return tokens


def refusal(server: Process) -> list[Any]:
    """Return status and code of the refusal; of an answer 200."""
    try:
        talk(server)
    except openai.APIStatusError as error:
        return [error.status_code, error.code]
    return [200, None]


@contextlib.contextmanager
def full_drive(path: Path) -> Iterator[Path]:
    """Yield a drive of 128 KB, which takes root to mount."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


if __name__ == "__main__":
    print(json.dumps(use_up(Path(sys.argv[1]))))
