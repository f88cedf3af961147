"""Switch a server of this host to another release, and back to the previous one if the new one does not serve.

    python -m workloads.serving.switch /etc/rackwright/servers/digits/server.json 3f2a99ab01cd

A release is a directory with the version of the model, the settings, and the server's code. Root runs this command.

LIB/
    current -> releases/3f2a99ab01cd
    state.json                              the previous release, and the last refused one with the reason
    watch.json                              the canary's accuracy, if a watch is declared
    lock                                    held by the process that switches or judges a release
    releases/3f2a99ab01cd/release.json      version of the model, and the canary
    releases/3f2a99ab01cd/settings.json
    releases/3f2a99ab01cd/workloads.zip
    releases/3f2a99ab01cd/model -> ../../models/6a0b…
    models/6a0b…/                           a model, under its version
    data/…                                  rows of canaries
"""

import fcntl
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workloads.command_line import new_parser
from workloads.errors import Diagnostic, UserError, print_error
from workloads.files import write_atomic
from workloads.serving import model as model_directory
from workloads.serving import watch_config
from workloads.serving.ask import LocalServer, measure_accuracy
from workloads.serving.model import StrictModel
from workloads.serving.watch_config import AccuracyReading, AccuracyRecord

POLL_SECONDS = 0.2
LOG_LINES = 6
NAME = re.compile(r"[0-9a-f]{12}")
"""Names of releases and models: below LIB nothing else is ever removed, except partial copies."""
PARTIAL = re.compile(r"\.[0-9a-f]{12}\.partial")


class WatchSettings(StrictModel):
    """Periodic checks of the accuracy between releases."""

    every_seconds: int
    change: float
    """The largest change of the accuracy within a day that is not reported."""
    roll_back: bool
    """Whether the previous release serves again if this one is less accurate than required."""


class SwitchPlan(StrictModel):
    """The content of the host's server.json."""

    name: str
    unit: str
    lib: str
    socket: str
    """Path of the Unix socket for the server's own host."""
    account: str
    """The account that the server runs as."""
    key: str | None = None
    """File of the API key that the host uses."""
    ready_seconds: int
    watch: WatchSettings | None = None
    watch_seconds: int = 0
    """Seconds that a watch may take; a switch waits so long for it."""


class ReleaseCanary(StrictModel):
    data: str
    accuracy: float


class Release(StrictModel):
    version: str
    canary: ReleaseCanary | None = None


class NotServing(UserError):
    """The server does not serve the release that it was started with."""

    exit_status = 4


class SwitchBusy(UserError):
    """Another process switches or judges a release of this server."""

    exit_status = 4


class ReleaseSwitch:
    """One server of this host."""

    def __init__(self, plan: SwitchPlan, progress: Callable[[str], None]) -> None:
        self.plan, self._progress = plan, progress
        self._lib = Path(plan.lib)
        key = Path(plan.key).read_text().strip() if plan.key else None
        self._server = LocalServer(plan.socket, plan.account, key)

    @contextmanager
    def exclusive(self, seconds: float) -> Iterator[None]:
        """Hold the lock that `up` and the watch share, until the block or this process ends.

        Raises:
            SwitchBusy: another process held the lock for *seconds*.
        """
        with (self._lib / "lock").open("w") as file:
            end = time.monotonic() + seconds
            while not _try_lock(file.fileno()):
                if time.monotonic() >= end:
                    problem = f"another process has held the lock for {seconds:g} s"
                    help = f"Find it with `fuser -v {shlex.quote(f'{self._lib}/lock')}`, and run the command again"
                    note = "one process at a time switches or judges a release"
                    raise SwitchBusy(Diagnostic(f"{self._lib}/lock", problem, help=help, note=note))
                time.sleep(POLL_SECONDS)
            yield

    def switch_to(self, name: str) -> None:
        """Serve release *name*, then remove all releases but it and the previous one.

        Raises:
            SwitchBusy: a watch did not end in time.
            NotServing: the release does not serve; the previous one serves again, or the message says that it does not.
        """
        with self.exclusive(self.plan.watch_seconds):
            before = self.current()
            self._replace(before, name)
            previous = before if before not in (None, name) else self.state().get("previous")
            self._update_state(previous=previous, refused=None)
            if self.plan.watch is None:
                (self._lib / watch_config.NAME).unlink(missing_ok=True)
            self._sweep({name, str(previous)})

    def roll_back_to(self, name: str, why: str) -> None:
        """Serve release *name* instead of the current one, which was found wrong; the caller holds the lock.

        Nothing is removed, since the current release is the declared one. Afterwards no release counts as the previous
        one: the current one is wrong, and older ones are unknown.

        Raises:
            NotServing: *name* does not serve; the current release serves again, or the message says that it does not.
        """
        current = self.current()
        self._replace(current, name)
        version = self.release(current).version if current else None
        self._update_state(previous=None, refused={"release": current, "version": version, "why": why})

    def _replace(self, before: str | None, name: str) -> None:
        try:
            self._start(name)
            accuracy = self._check_canary(name)
        except NotServing as error:
            self._print_log()
            self._update_state(
                refused={"release": name, "version": self.release(name).version, "why": error.diagnostic.problem}
            )
            if before == name:
                raise
            problem = f"{error.diagnostic.problem}; {self._restore(before)}"
            raise NotServing(replace(error.diagnostic, problem=problem)) from None
        if accuracy is not None and self.plan.watch is not None:
            self.record_reading(name, accuracy)

    def _restore(self, before: str | None) -> str:
        """Start release *before* again, and return the outcome in words."""
        if before is None:
            self._systemctl("stop")
            (self._lib / "current").unlink(missing_ok=True)
            return "there is no previous release, and nothing runs now"
        try:
            self._start(before)
        except NotServing as error:
            return f"the previous release {before} does not serve either ({error.diagnostic.problem})"
        return f"the previous release {before} serves again"

    def _start(self, name: str) -> None:
        """Start release *name*, and return when the server is ready with its model.

        Raises:
            NotServing: the server is not ready in time.
        """
        version = self.release(name).version
        self._systemctl("stop")
        _replace_link(self._lib / "releases" / name / "model", f"../../models/{version}")
        _replace_link(self._lib / "current", f"releases/{name}")
        self._systemctl("reset-failed")
        self._systemctl("start")
        end = time.monotonic() + self.plan.ready_seconds
        while True:
            state, served = self._serving()
            if served == version:
                self._progress(f"version {version} is ready")
                return
            if state == "active" and not self._answers_host(name):
                self._progress(f"release {name} runs; it has no socket for its host, so whether it is ready is unknown")
                return
            if state == "failed" or time.monotonic() >= end:
                problem = f"{self.plan.unit} is {state or 'unknown'}, " + (
                    f"and serves version {served}" if served else f"and not ready within {self.plan.ready_seconds} s"
                    if state != "failed" else "and not ready"
                )  # fmt: skip
                expected, help = f"version {version} of the model", "Correct what the last lines of its log name"
                raise NotServing(Diagnostic(f"release {name}", problem, expected, help))
            time.sleep(POLL_SECONDS)

    def _serving(self) -> tuple[str, str]:
        """Return the state of the unit, and the version that the server is ready with; only an active unit is asked."""
        state = self._systemctl("is-active")
        return state, self._server.version() if state == "active" else ""

    def _answers_host(self, name: str) -> bool:
        """Return whether release *name* has a socket for its host; releases of earlier versions have none."""
        try:
            return bool(self._settings(name).get("own_socket"))
        except UserError:
            return True  # such a release is not ready either

    def _settings(self, name: str) -> dict[str, Any]:
        """Return the settings of release *name*.

        Raises:
            UserError: the file cannot be read.
        """
        path = self._lib / "releases" / name / "settings.json"
        try:
            settings: dict[str, Any] = json.loads(path.read_text())
            return settings
        except (OSError, ValueError) as error:
            problem = f"the settings of the release cannot be read: {error}"
            raise UserError(Diagnostic(str(path), problem, help="Run `rackwright up` again")) from None

    def _check_canary(self, name: str) -> float | None:
        """Return the share of the canary's rows that are correct, if it is high enough; None without a canary.

        Raises:
            NotServing: too few rows are correct.
        """
        release = self.release(name)
        if release.canary is None:
            return None
        try:
            accuracy = self.measure(name, release.canary)
        except UserError as error:
            raise NotServing(*error.diagnostics) from None
        expected = f"at least {release.canary.accuracy:.2%}"
        if accuracy < release.canary.accuracy:
            problem = f"the canary is {accuracy:.4%} correct"
            help = "Serve another model, or lower the required accuracy"
            raise NotServing(Diagnostic(f"release {name} of version {release.version}", problem, expected, help))
        self._progress(f"the canary is {accuracy:.4%} correct, {expected} is required")
        return accuracy

    def measure(self, name: str, canary: ReleaseCanary) -> float:
        """Return the share of the rows of *canary* that the server, which serves release *name*, answers correctly.

        Raises:
            UserError: the rows cannot be read, or not all of them are answered.
        """
        max_batch = int(self._settings(name).get("max_batch", 32))
        model = model_directory.read(self._lib / "releases" / name / "model")
        return measure_accuracy(self._server, model, Path(canary.data), max_batch)

    def unready_reason(self, name: str) -> str:
        """Return why release *name* cannot be measured, or an empty text."""
        wanted, (state, served) = self.release(name).version, self._serving()
        if served == wanted:
            return ""
        serving = f"serves version {served} instead of {wanted}" if served else "is not ready"
        return f"{self.plan.unit} is {state or 'unknown'}, and {serving}"

    def release(self, name: str) -> Release:
        return Release.model_validate_json((self._lib / "releases" / name / "release.json").read_bytes())

    def is_installed(self, name: str) -> bool:
        """Return whether release *name* and its model are on the host."""
        folder = self._lib / "releases" / name
        return (folder / "release.json").is_file() and (folder / "model" / model_directory.NAME).is_file()

    def current(self) -> str | None:
        """Return the current release, or None if there is none or its directory is missing."""
        try:
            target = (self._lib / "current").readlink()
        except OSError:
            return None
        name = target.name
        return (
            name
            if target == Path("releases", name) and (self._lib / "releases" / name / "release.json").is_file()
            else None
        )

    def state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self._lib / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        return state

    def _update_state(self, **changes: Any) -> None:
        self._write("state.json", json.dumps({**self.state(), **changes}, indent=1) + "\n")

    def read_record(self) -> AccuracyRecord:
        """Return the record of the accuracy, with the declared settings of the watch."""
        record = watch_config.read(self._lib / watch_config.NAME)
        watch = self.plan.watch
        return record.model_copy(update={"every_seconds": watch.every_seconds, "change": watch.change} if watch else {})

    def record_reading(self, name: str, accuracy: float) -> AccuracyRecord:
        """Record the accuracy *accuracy* of release *name* now, and return the new record."""
        release = self.release(name)
        assert release.canary is not None
        reading = AccuracyReading(
            at=int(time.time()), release=name, version=release.version, rows=Path(release.canary.data).name,
            accuracy=accuracy,
        )  # fmt: skip
        return self.write_record(watch_config.with_reading(self.read_record(), reading, release.canary.accuracy))

    def write_record(self, record: AccuracyRecord) -> AccuracyRecord:
        self._write(watch_config.NAME, record.model_dump_json(indent=1) + "\n")
        return record

    def _write(self, name: str, text: str) -> None:
        """Replace a file of LIB by one with *text*, atomically."""
        # the server's account reads it, and no other account does
        write_atomic(self._lib / name, text, 0o640, group=self._lib.stat().st_gid)

    def _sweep(self, kept: set[str]) -> None:
        """Remove releases, models and rows that the releases *kept* do not use; other names than ours stay."""
        releases = [self.release(name) for name in kept if (self._lib / "releases" / name / "release.json").is_file()]
        versions = {release.version for release in releases}
        data = {Path(release.canary.data).name for release in releases if release.canary}
        for folder, names in (("releases", kept), ("models", versions), ("data", data)):
            directory = self._lib / folder
            for path in sorted(directory.iterdir()) if directory.is_dir() else ():
                if PARTIAL.fullmatch(path.name) or (path.name not in names and NAME.fullmatch(path.stem)):
                    self._progress(f"removed {path}")
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _systemctl(self, verb: str) -> str:
        argv = ["systemctl", verb, self.plan.unit]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()

    def _print_log(self) -> None:
        argv = ["journalctl", "--unit", self.plan.unit, "--lines", str(LOG_LINES), "--output", "cat", "--no-pager"]
        try:
            log = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        except OSError as error:
            log = f"the log cannot be read: {error}"
        for line in log.splitlines():
            self._progress(line)


def _try_lock(descriptor: int) -> bool:
    """Lock the file, and return whether this process holds the lock now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace_link(link: Path, target: str) -> None:
    """Point *link* to *target*, atomically."""
    beside = link.with_name(f".{link.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(link)


def main(argv: list[str] | None = None) -> int:
    parser = new_parser(
        "workloads.serving.switch",
        __doc__,
        "Exit status: 0 the release serves, 2 a file is wrong, 4 the release does not serve.",
    )
    parser.add_argument("plan", metavar="SERVER.json", type=Path, help="the server's description")
    parser.add_argument("release", metavar="RELEASE", help="name of a directory below LIB/releases")
    args = parser.parse_args(argv)
    return run(args.plan, lambda switch: switch.switch_to(args.release))


def run(path: Path, work: Callable[[ReleaseSwitch], int | None]) -> int:
    """Call *work* with the server that the file *path* describes, and return the exit status."""
    try:
        return work(ReleaseSwitch(SwitchPlan.model_validate_json(path.read_bytes()), print_line)) or 0
    except UserError as error:
        print_error(error)
        return error.exit_status
    except (OSError, ValidationError) as error:
        problem = f"the file cannot be read: {error}"
        print_error(Diagnostic(str(path), problem, help="Run `rackwright up` again"))
        return 2


def print_line(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
