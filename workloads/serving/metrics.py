"""Figures of a server, as Prometheus reads them. Each server has its own registry."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from workloads.serving import watch_config
from workloads.serving.model import Model

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """What is counted. It is the watch of both queues as well."""

    def __init__(self, model: Model, load_seconds: float, watch: Path | None = None) -> None:
        """
        Args:
            watch: Where a watch notes how much of a canary is right; None: nobody watches.
        """
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "rackwright_server_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "rackwright_server_request_seconds", "From a request's head to its answer's end.", ("route",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._waiting = Gauge("rackwright_server_queue_requests", "Requests that wait.", registry=registry)
        self._rows = Histogram(
            "rackwright_server_batch_rows", "Rows that were computed at once.", buckets=_ROWS, registry=registry
        )
        self._inference = Histogram(
            "rackwright_server_inference_seconds", "What the model took for a batch.", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._writing = Gauge(
            "rackwright_server_writing_requests", "Requests whose text is being written.", registry=registry
        )
        self._first_token = Histogram(
            "rackwright_server_first_token_seconds", "From a request to the first piece of its text.",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._tokens = Counter(
            "rackwright_server_tokens", "Tokens of prompts, and of what was written.", ("kind",), registry=registry
        )
        loaded = Gauge("rackwright_server_model_load_seconds", "From start to a loaded model.", registry=registry)
        loaded.set(load_seconds)
        Gauge("rackwright_server_model", "What is served.", ("name", "version", "runtime"), registry=registry).labels(
            model.name, model.version, model.runtime
        ).set(1)
        self._draining = Gauge("rackwright_server_draining", "1 once it has been told to stop.", registry=registry)
        if watch is not None:
            registry.register(_Watched(watch))

    def waiting(self, requests: int) -> None:
        self._waiting.set(requests)

    def computed(self, requests: int, rows: int, seconds: float) -> None:
        self._rows.observe(rows)
        self._inference.observe(seconds)

    def writing(self, requests: int) -> None:
        self._writing.set(requests)

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def wrote(self, prompt_tokens: int, tokens: int) -> None:
        self._tokens.labels("prompt").inc(prompt_tokens)
        self._tokens.labels("completion").inc(tokens)

    def answered(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def draining(self) -> None:
        self._draining.set(1)

    def text(self) -> bytes:
        told: bytes = generate_latest(self._registry)
        return told


class _Watched(Collector):
    """What a watch has noted, read whenever somebody asks; of what it has not noted there is no figure."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterator[Metric]:
        noted = watch_config.read(self._path)
        name = "rackwright_server_accuracy"
        at = noted.found.at if noted.found else 0
        yield _gauge(f"{name}_timestamp_seconds", "When it was last found out, since 1970; 0 for never.", at)
        yield _gauge(f"{name}_every_seconds", "How often that is to be.", noted.every_seconds)
        yield _gauge(f"{name}_unknown", "1 where the last look came to nothing.", noted.why_not is not None)
        if noted.found:
            yield _gauge(name, "Share of the canary's rows that are right.", noted.found.accuracy)
            yield _gauge(f"{name}_asked", "Share that has to be right.", noted.least)
            yield _gauge(f"{name}_change_allowed", "By how much it may move within a day.", noted.change)
        if noted.moved_by is not None:
            yield _gauge(f"{name}_change", "By how much it has moved within a day.", noted.moved_by)


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)
