"""The times of a text, whatever the clock of the event loop."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from workloads.serving.admission import Admission
from workloads.serving.generation import Generation
from workloads.serving.runtimes.runtime import Piece, TextEnd
from workloads.serving.usage import Usage


class Watch:
    def set_waiting(self, requests: int) -> None: ...
    def set_writing(self, requests: int) -> None: ...


class Stopped(asyncio.SelectorEventLoop):
    """A loop whose clock stands: that of uvloop has whole milliseconds."""

    def time(self) -> float:
        return 1000.0


def generate(request: Mapping[str, Any], send: Callable[[Piece], bool]) -> None:
    time.sleep(0.001)
    send(Piece("a", TextEnd("stop", 1, 1)))


async def first_token_seconds() -> float | None:
    generation = Generation(generate, 1, Admission(1, 1, Watch()))
    usage = Usage(lambda prompt_tokens, tokens: None)
    answer = await generation.submit({}, asyncio.get_running_loop().time() + 60, usage)
    assert [piece.text async for piece in answer] == ["a"]
    return answer.first_token_seconds


def test_the_time_of_the_first_token_is_finer_than_the_clock_of_the_loop() -> None:
    with asyncio.Runner(loop_factory=Stopped) as runner:
        seconds = runner.run(first_token_seconds())
    assert seconds is not None
    assert seconds >= 0.001
