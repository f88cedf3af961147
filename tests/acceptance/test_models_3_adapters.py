"""Line 3, adapters: a LoRA adapter is added, replaced and removed while the base goes on serving."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.models.protocol_cases import ADAPTER, MODEL
from tests.support.models.vllm_server import served
from tests.support.processes import tree

GUEST = "guest"
SECONDS = 120.0


class Served:
    """A server with a file of adapters."""

    def __init__(self, reach: dict[str, str]) -> None:
        self.url, self.pid, self.path = reach["url"], int(reach["pid"]), Path(reach["adapters"])

    def status(self, model: str) -> int:
        """Return the status of a completion by *model*."""
        body = json.dumps({"model": model, "prompt": "def main", "max_tokens": 4, "temperature": 0}).encode()
        request = Request(f"{self.url}/v1/completions", body, {"content-type": "application/json"})
        try:
            with urlopen(request, timeout=SECONDS) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code

    def load(self, adapters: dict[str, Any]) -> float:
        """Write *adapters* to the server's file, and return the seconds until it serves them."""
        began, wanted = time.monotonic(), {name: each["directory"] for name, each in adapters.items()}
        self.path.write_text(json.dumps(adapters))
        os.kill(self.pid, signal.SIGHUP)
        while (loaded := self._loaded()) != wanted:
            need(time.monotonic() - began < SECONDS, f"the server has {loaded}, not {wanted}")
            time.sleep(0.05)
        return time.monotonic() - began

    def _loaded(self) -> Any:
        with urlopen(f"{self.url}/ready", timeout=SECONDS) as answer:
            return json.load(answer)["adapters"]


@line("models", 3, part="adapters")
def test_an_adapter_is_added_replaced_and_removed_without_a_restart_of_the_base(log: Log) -> str:
    """On a Llama-shaped model: vLLM refuses adapters of attention with a latent cache."""
    with served(log, parallel=4, reads_adapters=True) as (reach, _):
        server = Served(reach)
        before = tree(server.pid)
        present = json.loads(server.path.read_text())
        need((server.status(MODEL), server.status(ADAPTER), server.status(GUEST)) == (200, 200, 404), "at the start")
        guests = []
        for number in (1, 2):
            directory = server.path.with_name(f"guest-{number}")
            shutil.copytree(present[ADAPTER]["directory"], directory)
            guests.append({**present[ADAPTER], "directory": str(directory)})
        added = server.load({**present, GUEST: guests[0]})
        need(server.status(GUEST) == 200, "the added adapter does not answer")
        replaced = server.load({**present, GUEST: guests[1]})
        need(server.status(GUEST) == 200, "the replaced adapter does not answer")
        server.load(present)
        need((server.status(MODEL), server.status(ADAPTER), server.status(GUEST)) == (200, 200, 404), "at the end")
        need(set(before) <= set(tree(server.pid)), "vLLM was started again")
    return f"added in {added:.1f} s, replaced in {replaced:.1f} s, and removed; the processes stay the same"
