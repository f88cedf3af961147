"""The Prometheus metrics of a server. Each server has its own registry."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from workloads.serving import watch_config
from workloads.serving.model import Model

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKENS_PER_SECOND = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
CONTENT_TYPE = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Text:
    """A text as the metrics count it."""

    prompt_tokens: int
    tokens: int
    first_token_seconds: float | None
    """Seconds from the request to the first token; None if that time is not known."""


class Metrics:
    """The metrics of a server, which both queues update."""

    def __init__(self, model: Model, load_seconds: float, watch: Path | None = None) -> None:
        """
        Args:
            watch: File in which a watch records the canary's accuracy; None: there is no watch.
        """
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "rackwright_server_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self._refusals = Counter(
            "rackwright_server_refusals", "Requests refused for their key: no key, scope, quota or share.",
            ("reason", "key"), registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "rackwright_server_request_seconds", "Seconds from a request's head to the end of its answer.", ("route",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._waiting = Gauge("rackwright_server_queue_requests", "Requests in the queue.", registry=registry)
        self._rows = Histogram("rackwright_server_batch_rows", "Rows of a batch.", buckets=_ROWS, registry=registry)
        self._inference = Histogram(
            "rackwright_server_inference_seconds", "Seconds that the model took for a batch.", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._writing = Gauge(
            "rackwright_server_writing_requests", "Requests whose text is being generated.", registry=registry
        )
        self._first_token = Histogram(
            "rackwright_server_first_token_seconds", "Seconds from a request to the first piece of its text.", ("key",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._token_rate = Histogram(
            "rackwright_server_tokens_per_second", "Tokens per second of a text, after its first token.", ("key",),
            buckets=_TOKENS_PER_SECOND, registry=registry,
        )  # fmt: skip
        self._tokens = Counter(
            "rackwright_server_tokens", "Tokens of prompts and of completions.", ("kind", "key"), registry=registry
        )
        load = Gauge(
            "rackwright_server_model_load_seconds",
            "Seconds from the start of the process to a loaded model.",
            registry=registry,
        )
        load.set(load_seconds)
        Gauge("rackwright_server_model", "The served model.", ("name", "version", "runtime"), registry=registry).labels(
            model.name, model.version, model.runtime
        ).set(1)
        self._draining = Gauge("rackwright_server_draining", "1 after a stop signal.", registry=registry)
        if watch is not None:
            registry.register(_AccuracyCollector(watch))

    def set_waiting(self, requests: int) -> None:
        self._waiting.set(requests)

    def record_batch(self, requests: int, rows: int, seconds: float) -> None:
        self._rows.observe(rows)
        self._inference.observe(seconds)

    def set_writing(self, requests: int) -> None:
        self._writing.set(requests)

    def record_text(self, text: Text, key: str, seconds: float) -> None:
        """Record a text that has ended.

        Args:
            key: The name of the client's key; empty without keys.
            seconds: Seconds from the request to the end of its answer.
        """
        if text.first_token_seconds is not None:
            self._first_token.labels(key).observe(text.first_token_seconds)
            if text.tokens > 1 and seconds > text.first_token_seconds:
                rate = (text.tokens - 1) / (seconds - text.first_token_seconds)
                self._token_rate.labels(key).observe(rate)

    def record_tokens(self, prompt_tokens: int, tokens: int, key: str) -> None:
        """Record tokens that a request with *key*, a name, has used; empty without keys."""
        self._tokens.labels("prompt", key).inc(prompt_tokens)
        self._tokens.labels("completion", key).inc(tokens)

    def record_response(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def record_refusal(self, reason: str, key: str) -> None:
        """Record a request that was refused for its *key*, a name; empty without one."""
        self._refusals.labels(reason, key).inc()

    def set_draining(self) -> None:
        self._draining.set(1)

    def text(self) -> bytes:
        text: bytes = generate_latest(self._registry)
        return text


class _AccuracyCollector(Collector):
    """The watch's record, read for each scrape; a value that the record lacks has no metric."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterator[Metric]:
        record = watch_config.read(self._path)
        name = "rackwright_server_accuracy"
        at = record.found.at if record.found else 0
        yield _gauge(
            f"{name}_timestamp_seconds", "Time of the last measurement, in seconds since 1970; 0 for never.", at
        )
        yield _gauge(f"{name}_every_seconds", "Seconds between two measurements.", record.every_seconds)
        yield _gauge(f"{name}_unknown", "1 if the last measurement failed.", record.why_not is not None)
        if record.found:
            yield _gauge(name, "Share of the canary's rows with a correct answer.", record.found.accuracy)
            yield _gauge(f"{name}_asked", "Share of correct answers that is required.", record.least)
            yield _gauge(
                f"{name}_change_allowed", "Largest change of the accuracy within a day that is allowed.", record.change
            )
        if record.drift is not None:
            yield _gauge(f"{name}_change", "Change of the accuracy within a day.", record.drift)


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)
