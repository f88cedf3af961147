"""Sending of a run's metrics file to an MLflow server, in a separate thread.

The run only writes its file, so the server cannot delay it. A state file records how much of the metrics file has been
sent, so nothing is lost while the server is away: the next start, or ``python -m workloads.tracking DIR``, continues
from there.
"""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from workloads.errors import Diagnostic, UserError
from workloads.files import write_atomic
from workloads.foreign import parse_json, read_whole
from workloads.tracking import provenance
from workloads.tracking.server import TrackingRefused, TrackingServer

NAME = "tracking.json"
INTERVAL_SECONDS = 2.0
"""Interval between two checks for new lines."""
BACK_OFF_SECONDS = 60.0
"""Longest wait before the next attempt at a server that did not respond; the wait doubles each time."""
METRICS, PARAMETERS = 1000, 100
"""Maximum number in one request. Source: MLflow REST API, Log Batch."""
VALUE = 6000
"""Maximum length of a parameter, in characters. Source: MLflow, MAX_PARAM_VAL_LENGTH."""
BYTES = 1 << 18
"""Bytes of the file to read at a time."""
STATUS = {"finished": "FINISHED", "stopped": "KILLED"}
"""MLflow's status for each final event of a run."""


class Tracker:
    """Sends the metrics of the run in a directory until it is closed."""

    def __init__(
        self,
        server: TrackingServer,
        out: Path,
        progress: Callable[[str], None],
        journal: str = "metrics.jsonl",
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        """
        Args:
            out: Directory of the run, which may not exist yet.
            progress: Function for messages: one when sending fails, and one about unsent lines at the end.
            journal: Name of the metrics file.
        """
        self.server, self.out, self._progress = server, out, progress
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
        """Send the remaining lines for at most *seconds*; return whether the server has all lines."""
        self._ending.set()
        self._thread.join(seconds)
        unsent = self._count_unsent()
        if unsent or self._thread.is_alive():
            why = self._failure or "there was no time"
            self._progress(
                f"tracking: {unsent} lines were not sent to {self.server.url} ({why}); they are in {self._journal}, "
                f"and `python -m workloads.tracking {self.out}` sends them"
            )
        return not unsent

    @property
    def is_finished(self) -> bool:
        """Whether the server has the final status of a finished run."""
        return self._state.get("status") == "FINISHED"

    # --- in the thread

    def _follow(self) -> None:
        wait = self._interval
        while True:
            ending = self._ending.wait(wait)
            try:
                self.send(ending)
                wait, self._failure = self._interval, ""
            except UserError as error:
                wait = min(max(wait, 1.0) * 2, BACK_OFF_SECONDS)
                self._report_failure(error)
            except Exception as error:  # no error here may stop the run
                wait = BACK_OFF_SECONDS
                self._report_failure(error)
            if ending:
                return

    def _report_failure(self, error: Exception) -> None:
        if not self._failure:
            self._progress(f"tracking: {error} The run continues; its metrics stay in {self._journal}.")
        self._failure = str(error)

    def send(self, ending: bool = True) -> None:
        """Send all complete lines; if *ending*, also the final status.

        Raises:
            UserError: The server does not respond or refuses the data.
        """
        if not self._state:
            self._state = _read_state(self.out, self.server.url)
        while (batch := self._read_lines()) is not None:
            lines, position = batch
            self._start_run()
            self._send_lines(lines)
            self._save_state(sent=position)
        if ending and self._state.get("status") == "RUNNING":
            self._end_run()

    def _read_lines(self) -> tuple[list[dict[str, Any]], int] | None:
        """Return the next complete lines and the position of their end; None if there are none."""
        try:
            with self._journal.open("rb") as file:
                file.seek(self._state.get("sent", 0))
                text = file.read(BYTES)
        except FileNotFoundError:
            return None
        whole = text.rpartition(b"\n")[0]
        if not whole:
            return None
        return [line for line in map(_parse_line, whole.split(b"\n")) if line], self._state.get("sent", 0) + len(
            whole
        ) + 1

    def _start_run(self) -> None:
        """Resume the server's run of an earlier start, or create one with its parameters and provenance."""
        if self._state.get("status") == "RUNNING":
            return
        if "run" not in self._state:
            config = _config(self.out)
            name = str(config.get("name", self.out.name))
            created = self.server.post(
                "runs/create",
                experiment_id=find_or_create_experiment(self.server, name),
                run_name=f"{name} {self.out.name}",
                start_time=_now(),
                tags=provenance.to_tags(provenance.collect(self.out)),
            )["run"]["info"]
            self._save_state(run=created["run_id"], experiment=created["experiment_id"], sent=0)
            parameters = [{"key": key, "value": value} for key, value in flatten(config)]
            for first in range(0, len(parameters), PARAMETERS):
                self._send_batch(params=parameters[first : first + PARAMETERS])
        self.server.post("runs/update", run_id=self._state["run"], status="RUNNING")
        self._save_state(status="RUNNING", last="")

    def _send_lines(self, lines: list[dict[str, Any]]) -> None:
        metrics = [metric for line in lines for metric in parse_metrics(line)]
        for first in range(0, len(metrics), METRICS):
            self._send_batch(metrics=metrics[first : first + METRICS])
        for line in lines:
            if line.get("event") == "start":
                tags = {key: str(value) for key, value in line.items() if key not in ("event", "pid")}
                self._send_batch(tags=[{"key": f"start.{key}", "value": value} for key, value in tags.items()])
            if "event" in line:
                self._save_state(last=line["event"])

    def _end_run(self) -> None:
        status = STATUS.get(self._state.get("last", ""), "FAILED")
        self.server.post("runs/update", run_id=self._state["run"], status=status, end_time=_now())
        self._save_state(status=status)

    def _send_batch(self, **values: Any) -> None:
        if any(values.values()):
            self.server.post("runs/log-batch", run_id=self._state["run"], **values)

    def _save_state(self, **values: Any) -> None:
        self._state |= {"url": self.server.url, **values}
        write_atomic(self.out / NAME, json.dumps(self._state) + "\n")

    def _count_unsent(self) -> int:
        """Return the number of lines that have not been sent."""
        try:
            with self._journal.open("rb") as file:
                file.seek(self._state.get("sent", 0))
                return file.read().count(b"\n")
        except FileNotFoundError:
            return 0


def load_tracking_state(out: Path) -> dict[str, Any]:
    """Return the identity of the run in *out* at its server: ``url``, ``run``, ``experiment``; empty if untracked."""
    try:
        state = json.loads(read_whole(out / NAME))
    except FileNotFoundError:
        return {}
    except ValueError:
        problem, note = "the file is not JSON", "it identifies the run at its server"
        help = "Move the file away, and run this again, which sends the run as a new one"
        raise TrackingRefused(Diagnostic(str(out / NAME), problem, "JSON", help, note)) from None
    return dict(state)


def _read_state(out: Path, url: str) -> dict[str, Any]:
    """Return the state of an earlier start; a new state if that used another server."""
    state = load_tracking_state(out)
    return state if state.get("url") == url else {"url": url}


def parse_metrics(line: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the numbers in a line as metrics of MLflow."""
    if "step" not in line or line.get("event") == "start":
        return
    timestamp = int(float(line.get("time", time.time())) * 1000)
    for key, value in line.items():
        if key in ("step", "time") or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if math.isfinite(value):
            yield {"key": key, "value": value, "timestamp": timestamp, "step": int(line["step"])}


def flatten(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key of a configuration, such as ``model.kind``, and its value as text."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from flatten(part, f"{place}.{key}" if place else str(key))
    elif value is not None:
        yield place, (value if isinstance(value, str) else json.dumps(value))[:VALUE]


def find_or_create_experiment(server: TrackingServer, name: str) -> str:
    """Return the ID of the experiment *name*, created if it is missing; two runs may create it at the same time."""
    for _ in range(2):
        try:
            return str(server.get("experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"])
        except TrackingRefused as error:
            if error.status != 404:
                raise
        try:
            return str(server.post("experiments/create", name=name)["experiment_id"])
        except TrackingRefused as error:
            if "already exists" not in str(error):
                raise
    problem, help = f"the experiment {name} is deleted", "Restore the experiment, or rename the run"
    raise TrackingRefused(Diagnostic(server.url, problem, help=help, note="each run belongs to an experiment"))


def _config(out: Path) -> dict[str, Any]:
    try:
        config = json.loads(read_whole(out / "config.json"))
    except (FileNotFoundError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _parse_line(line: bytes) -> dict[str, Any]:
    """Return the values in a line; empty for a line that a power cut has damaged."""
    try:
        values = parse_json(line, lenient=True)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _now() -> int:
    return int(time.time() * 1000)
