"""Tells an MLflow server what a run writes into its file of metrics, from a thread of its own.

The run writes its lines, and knows of nothing else: it cannot be held up. The file is what is still to be sent, and how
far it was sent stands beside it, so that nothing is lost where the server is away; the next start, or
``python -m workloads.tracking DIR``, goes on from there.
"""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from workloads.errors import WorkloadError
from workloads.tracking import provenance
from workloads.tracking.server import Refused, Server

NAME = "tracking.json"
INTERVAL_SECONDS = 2.0
"""How often it looks for new lines."""
BACK_OFF_SECONDS = 60.0
"""How long it waits at most before it asks again a server that did not answer; each time twice as long."""
METRICS, PARAMETERS = 1000, 100
"""The most in one request. Source: MLflow REST API, Log Batch."""
VALUE = 6000
"""The most characters of a parameter. Source: MLflow, MAX_PARAM_VAL_LENGTH."""
BYTES = 1 << 18
"""Of the file, read at once."""
STATUS = {"finished": "FINISHED", "stopped": "KILLED"}
"""How MLflow calls the end that the run tells."""


class Tracker:
    """Follows the run in a directory until it is closed."""

    def __init__(
        self,
        server: Server,
        out: Path,
        say: Callable[[str], None],
        journal: str = "metrics.jsonl",
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        """
        Args:
            out: The run's directory; need not be there yet.
            say: Hears once when the server cannot be told, and at the end what it was not told.
            journal: The name of the file of metrics that is followed.
        """
        self.server, self.out, self._say = server, out, say
        self._journal, self._interval = out / journal, interval_seconds
        self._state: dict[str, Any] = {}
        self._failure = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self, seconds: float = 30) -> bool:
        """Send what is left, for so long at most; return whether the server has all."""
        self._ending.set()
        self._thread.join(seconds)
        left = self._left()
        if left or self._thread.is_alive():
            why = self._failure or "there was no time"
            self._say(
                f"tracking: {left} lines were not sent to {self.server.url} ({why}); they are in {self._journal}, "
                f"and `python -m workloads.tracking {self.out}` sends them"
            )
        return not left

    @property
    def finished(self) -> bool:
        """Whether the server knows that the run has finished."""
        return self._state.get("status") == "FINISHED"

    # --- in the thread

    def _follow(self) -> None:
        wait = self._interval
        while True:
            ending = self._ending.wait(wait)
            try:
                self.send(ending)
                wait, self._failure = self._interval, ""
            except WorkloadError as error:
                wait = min(max(wait, 1.0) * 2, BACK_OFF_SECONDS)
                self._failed(error)
            except Exception as error:  # whatever it is, the run goes on
                wait = BACK_OFF_SECONDS
                self._failed(error)
            if ending:
                return

    def _failed(self, error: Exception) -> None:
        if not self._failure:
            self._say(f"tracking: {error} The run goes on; what it tells is kept in {self._journal}.")
        self._failure = str(error)

    def send(self, ending: bool = True) -> None:
        """Send all lines that are whole; at the end, also how it ended.

        Raises:
            WorkloadError: the server cannot be told.
        """
        if not self._state:
            self._state = _read_state(self.out, self.server.url)
        while (found := self._next()) is not None:
            lines, position = found
            self._begin()
            self._tell(lines)
            self._keep(sent=position)
        if ending and self._state.get("status") == "RUNNING":
            self._end()

    def _next(self) -> tuple[list[dict[str, Any]], int] | None:
        """Return the next lines and where they end in the file; None where there is nothing whole."""
        try:
            with self._journal.open("rb") as file:
                file.seek(self._state.get("sent", 0))
                text = file.read(BYTES)
        except FileNotFoundError:
            return None
        whole = text.rpartition(b"\n")[0]
        if not whole:
            return None
        return [line for line in map(_parsed, whole.split(b"\n")) if line], self._state.get("sent", 0) + len(whole) + 1

    def _begin(self) -> None:
        """Have a run at the server: the one of an earlier start, or a new one with its parameters and provenance."""
        if self._state.get("status") == "RUNNING":
            return
        if "run" not in self._state:
            config = _config(self.out)
            name = str(config.get("name", self.out.name))
            made = self.server.post(
                "runs/create",
                experiment_id=experiment(self.server, name),
                run_name=f"{name} {self.out.name}",
                start_time=_now(),
                tags=provenance.tags(provenance.of_run(self.out)),
            )["run"]["info"]
            self._keep(run=made["run_id"], experiment=made["experiment_id"], sent=0)
            parameters = [{"key": key, "value": value} for key, value in flat(config)]
            for first in range(0, len(parameters), PARAMETERS):
                self._batch(params=parameters[first : first + PARAMETERS])
        self.server.post("runs/update", run_id=self._state["run"], status="RUNNING")
        self._keep(status="RUNNING", last="")

    def _tell(self, lines: list[dict[str, Any]]) -> None:
        found = [metric for line in lines for metric in metrics(line)]
        for first in range(0, len(found), METRICS):
            self._batch(metrics=found[first : first + METRICS])
        for line in lines:
            if line.get("event") == "start":
                told = {key: str(value) for key, value in line.items() if key not in ("event", "pid")}
                self._batch(tags=[{"key": f"start.{key}", "value": value} for key, value in told.items()])
            if "event" in line:
                self._keep(last=line["event"])

    def _end(self) -> None:
        status = STATUS.get(self._state.get("last", ""), "FAILED")
        self.server.post("runs/update", run_id=self._state["run"], status=status, end_time=_now())
        self._keep(status=status)

    def _batch(self, **told: Any) -> None:
        if any(told.values()):
            self.server.post("runs/log-batch", run_id=self._state["run"], **told)

    def _keep(self, **values: Any) -> None:
        self._state |= {"url": self.server.url, **values}
        beside = self.out / f".{NAME}.new"
        beside.write_text(json.dumps(self._state) + "\n")
        beside.replace(self.out / NAME)

    def _left(self) -> int:
        """Return how many lines the server was not told."""
        try:
            with self._journal.open("rb") as file:
                file.seek(self._state.get("sent", 0))
                return file.read().count(b"\n")
        except FileNotFoundError:
            return 0


def tracked(out: Path) -> dict[str, Any]:
    """Return how the run in *out* is known at its server: ``url``, ``run``, ``experiment``; empty where it is not."""
    try:
        told = json.loads((out / NAME).read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        fix = "Delete it: the run is told anew, as another"
        raise Refused(str(out / NAME), "got no JSON", "it says as what a run is tracked", fix) from None
    return dict(told)


def _read_state(out: Path, url: str) -> dict[str, Any]:
    """Return how far an earlier start came; at another server it is another run."""
    found = tracked(out)
    return found if found.get("url") == url else {"url": url}


def metrics(line: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the figures in a line as MLflow takes them; what is no number is left out."""
    if "step" not in line or line.get("event") == "start":
        return
    at = int(float(line.get("time", time.time())) * 1000)
    for key, value in line.items():
        if key in ("step", "time") or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if math.isfinite(value):
            yield {"key": key, "value": value, "timestamp": at, "step": int(line["step"])}


def flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield what stands in a configuration: ``model.kind`` and its value as a text."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from flat(part, f"{place}.{key}" if place else str(key))
    elif value is not None:
        yield place, (value if isinstance(value, str) else json.dumps(value))[:VALUE]


def experiment(server: Server, name: str) -> str:
    """Return the experiment of this name, made if need be; two runs may come to make it at once."""
    for _ in range(2):
        try:
            return str(server.get("experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"])
        except Refused as refused:
            if refused.status != 404:
                raise
        try:
            return str(server.post("experiments/create", name=name)["experiment_id"])
        except Refused as refused:
            if "already exists" not in str(refused):
                raise
    raise Refused(server.url, f"got an experiment {name} that was deleted", "runs have one", "Restore it, or rename")


def _config(out: Path) -> dict[str, Any]:
    try:
        told = json.loads((out / "config.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _parsed(line: bytes) -> dict[str, Any]:
    """Return what a line says; a line that a power cut has spoilt says nothing."""
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _now() -> int:
    return int(time.time() * 1000)
