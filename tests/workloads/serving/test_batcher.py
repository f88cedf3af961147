"""The queue: at once while the model is idle, together while it is busy, bounded, and nobody's answer is another's."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from workloads.serving.batcher import Arrays, Batcher, DeadlineExceeded, QueueFull


class Watch:
    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []

    def set_waiting(self, requests: int) -> None: ...

    def record_batch(self, requests: int, rows: int, seconds: float) -> None:
        self.batches.append((requests, rows))


class Model:
    """Computes when it is let, and says with which rows it has begun."""

    def __init__(self) -> None:
        self.go, self.seen = threading.Semaphore(0), []
        self.began: asyncio.Queue[int] = asyncio.Queue()
        self.loop = asyncio.get_running_loop()

    def __call__(self, arrays: Arrays) -> Arrays:
        self.seen.append(arrays["x"].shape)
        self.loop.call_soon_threadsafe(self.began.put_nowait, len(arrays["x"]))
        assert self.go.acquire(timeout=60)
        if (arrays["x"] < 0).any():
            raise ValueError("below nothing")
        return {"y": arrays["x"] + 1}


def arrays(value: float, rows: int = 1, width: int = 2) -> Arrays:
    return {"x": np.full((rows, width), value, np.float32)}


def run(
    test: Callable[[Batcher, Model, Watch], Awaitable[None]], batches: bool = True, max_batch: int = 4, queue: int = 8
) -> None:
    async def whole() -> None:
        model, watch = Model(), Watch()
        batcher = Batcher(model, batches, max_batch, queue, watch)
        task = asyncio.create_task(batcher.run())
        try:
            await test(batcher, model, watch)
        finally:
            task.cancel()
            for _ in range(20):
                model.go.release()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(whole())


async def held(batcher: Batcher, model: Model, *jobs: tuple[Arrays, int]) -> list["asyncio.Task[Arrays]"]:
    """Have the model busy with the first of *jobs*, and the others wait."""
    end = asyncio.get_running_loop().time() + 60
    first = asyncio.create_task(batcher.submit(*jobs[0], end))
    await model.began.get()
    others = [asyncio.create_task(batcher.submit(*job, end)) for job in jobs[1:]]
    await asyncio.sleep(0)
    return [first, *others]


def test_the_first_does_not_wait_and_the_others_go_together() -> None:
    async def test(batcher: Batcher, model: Model, watch: Watch) -> None:
        tasks = await held(batcher, model, *((arrays(value), 1) for value in range(4)))
        for _ in range(2):
            model.go.release()
        answers = await asyncio.gather(*tasks)

        assert watch.batches == [(1, 1), (3, 3)]
        assert [answer["y"].tolist() for answer in answers] == [[[value + 1] * 2] for value in range(4)]

    run(test)


def test_a_batch_has_no_more_rows_than_it_may_and_keeps_the_order() -> None:
    async def test(batcher: Batcher, model: Model, watch: Watch) -> None:
        tasks = await held(batcher, model, *((arrays(value, rows), rows) for value, rows in enumerate((1, 2, 3, 1))))
        for _ in range(3):
            model.go.release()
        answers = await asyncio.gather(*tasks)

        assert watch.batches == [(1, 1), (1, 2), (2, 4)]
        assert [len(answer["y"]) for answer in answers] == [1, 2, 3, 1]

    run(test)


def test_other_shapes_go_by_themselves() -> None:
    async def test(batcher: Batcher, model: Model, watch: Watch) -> None:
        tasks = await held(batcher, model, *((arrays(0, 1, width), 1) for width in (2, 2, 3, 2)))
        for _ in range(3):
            model.go.release()
        await asyncio.gather(*tasks)

        assert model.seen == [(1, 2), (2, 2), (1, 3)]

    run(test)


def test_a_model_that_takes_no_batches_gets_none() -> None:
    async def test(batcher: Batcher, model: Model, watch: Watch) -> None:
        tasks = await held(batcher, model, *[(arrays(0), 1)] * 3)
        for _ in range(3):
            model.go.release()
        await asyncio.gather(*tasks)

        assert watch.batches == [(1, 1)] * 3

    run(test, batches=False)


def test_beyond_the_queue_is_full_and_says_when_to_come_back() -> None:
    async def test(batcher: Batcher, model: Model, watch: Watch) -> None:
        tasks = await held(batcher, model, *[(arrays(0), 1)] * 3)
        with pytest.raises(QueueFull) as full:
            await batcher.submit(arrays(0), 1, asyncio.get_running_loop().time() + 60)
        assert full.value.retry_after >= 1
        for _ in range(2):
            model.go.release()
        assert len(await asyncio.gather(*tasks)) == 3

    run(test, queue=2)


def test_what_is_late_is_not_computed() -> None:
    async def test(batcher: Batcher, model: Model, watch: Watch) -> None:
        [first] = await held(batcher, model, (arrays(0), 1))
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(arrays(1), 1, asyncio.get_running_loop().time())
        model.go.release()
        await first
        last = asyncio.create_task(batcher.submit(arrays(2), 1, asyncio.get_running_loop().time() + 60))
        model.go.release()
        await last

        assert watch.batches == [(1, 1), (1, 1)]

    run(test)


def test_what_is_late_while_it_is_computed_spoils_nothing() -> None:
    async def test(batcher: Batcher, model: Model, watch: Watch) -> None:
        late = asyncio.create_task(batcher.submit(arrays(0), 1, asyncio.get_running_loop().time() + 0.01))
        await model.began.get()
        with pytest.raises(DeadlineExceeded):
            await late
        [other] = [asyncio.create_task(batcher.submit(arrays(4), 1, asyncio.get_running_loop().time() + 60))]
        for _ in range(2):
            model.go.release()

        assert (await other)["y"].tolist() == [[5, 5]]

    run(test)


def test_a_failure_is_that_of_its_batch_alone() -> None:
    async def test(batcher: Batcher, model: Model, watch: Watch) -> None:
        tasks = await held(batcher, model, *((arrays(value), 1) for value in (0, -1)))
        for _ in range(2):
            model.go.release()
        good, bad = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(good, dict)
        assert isinstance(bad, ValueError)
        model.go.release()
        after = await batcher.submit(arrays(1), 1, asyncio.get_running_loop().time() + 60)
        assert after["y"].tolist() == [[2, 2]]

    run(test)


def test_many_at_once_get_each_their_own() -> None:
    async def test(batcher: Batcher, model: Model, watch: Watch) -> None:
        for _ in range(500):
            model.go.release()
        end = asyncio.get_running_loop().time() + 60

        async def client(number: int) -> None:
            for turn in range(10):
                value = number * 100 + turn
                answer = await batcher.submit(arrays(value, 1 + number % 3), 1 + number % 3, end)
                assert answer["y"].tolist() == [[value + 1] * 2] * (1 + number % 3)

        await asyncio.gather(*(client(number) for number in range(16)))
        assert sum(requests for requests, _ in watch.batches) == 160

    run(test, max_batch=8, queue=32)
