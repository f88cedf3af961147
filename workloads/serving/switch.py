"""Let a server of this host serve another release; where that does not answer, what ran before serves again.

    python -m workloads.serving.switch /etc/rackwright/servers/digits/server.json 3f2a99ab01cd

A release is a directory: which model, the settings, and the code that serves it. Root runs this.

LIB/
    current -> releases/3f2a99ab01cd
    state.json                              the release before, and one that was refused, with the reason
    watch.json                              how much of the canary was right, where somebody watches
    lock                                    held by whoever lets another release serve
    releases/3f2a99ab01cd/release.json      version of the model, and what the canary asks
    releases/3f2a99ab01cd/settings.json
    releases/3f2a99ab01cd/workloads.zip
    releases/3f2a99ab01cd/model -> ../../models/6a0b…
    models/6a0b…/                           under its version
    data/…                                  rows of canaries
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.serving import model as published
from workloads.serving import watch_config
from workloads.serving.ask import Own, accuracy
from workloads.serving.model import Strict
from workloads.serving.watch_config import Noted, Reading

POLL_SECONDS = 0.2
LOG_LINES = 6
NAME = re.compile(r"[0-9a-f]{12}")
"""Names of a release and of a model: nothing else below LIB is ever removed, except copies that were cut off."""
PARTIAL = re.compile(r"\.[0-9a-f]{12}\.partial")
Say = Callable[[str], None]


class Watch(Strict):
    """What is watched between releases."""

    every_seconds: int
    change: float
    """By how much the accuracy may move within a day until it is said."""
    roll_back: bool
    """Whether the release before serves again where this one has less right than it has to."""


class Plan(Strict):
    """What the host's server.json says."""

    name: str
    unit: str
    lib: str
    socket: str
    """On which the server answers its own host."""
    account: str
    """That the server runs as."""
    key: str | None = None
    """File of the key by which the host asks."""
    ready_seconds: int
    watch: Watch | None = None
    watch_seconds: int = 0
    """How long a watch may be at work: so long is waited for it."""


class Canary(Strict):
    data: str
    accuracy: float


class Release(Strict):
    version: str
    canary: Canary | None = None


class NotServing(WorkloadError):
    """A server that does not do what it was started for."""

    exit_status = 4


class Busy(WorkloadError):
    """Somebody else lets another release serve."""

    exit_status = 4


class Switch:
    """One server of this host."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan, self._say = plan, say
        self._lib = Path(plan.lib)
        key = Path(plan.key).read_text().strip() if plan.key else None
        self._own = Own(plan.socket, plan.account, key)

    @contextmanager
    def alone(self, seconds: float) -> Iterator[None]:
        """Let nobody else look at what serves, or change it, meanwhile: `up` and the watch. A process's end ends it.

        Raises:
            Busy: somebody has been at it for *seconds*.
        """
        with (self._lib / "lock").open("w") as file:
            end = time.monotonic() + seconds
            while not _taken(file.fileno()):
                if time.monotonic() >= end:
                    got = f"got a lock that somebody has held for {seconds:g} s"
                    fix = "Run it again; `fuser` says who holds it"
                    raise Busy(f"{self._lib}/lock", got, "one at a time lets a release serve, or judges it", fix)
                time.sleep(POLL_SECONDS)
            yield

    def to(self, name: str) -> None:
        """Serve release *name*; what is neither it nor the one before is then removed.

        Raises:
            Busy: a watch has not come to its end.
            NotServing: it does not; what ran before serves again, or it is said that it does not.
        """
        with self.alone(self.plan.watch_seconds):
            before = self.current()
            self._exchange(before, name)
            previous = before if before not in (None, name) else self.state().get("previous")
            self._note(previous=previous, refused=None)
            if self.plan.watch is None:
                (self._lib / watch_config.NAME).unlink(missing_ok=True)
            self._sweep({name, str(previous)})

    def back_to(self, name: str, why: str) -> None:
        """Serve release *name* in the place of the present one, which was found wrong; the caller is alone.

        Nothing is removed, since the present one is what is declared. It is not gone back to, as little as to anything
        from before *name*, of which nothing is known.

        Raises:
            NotServing: *name* does not serve either; the present one does again, or it is said that it does not.
        """
        wrong = self.current()
        self._exchange(wrong, name)
        version = self.release(wrong).version if wrong else None
        self._note(previous=None, refused={"release": wrong, "version": version, "why": why})

    def _exchange(self, before: str | None, name: str) -> None:
        try:
            self._start(name)
            found = self._judge(name)
        except NotServing as error:
            self._tell_log()
            self._note(refused={"release": name, "version": self.release(name).version, "why": error.got})
            if before == name:
                raise
            raise NotServing(error.where, f"{error.got}; {self._back(before)}", error.want, error.fix) from None
        if found is not None and self.plan.watch is not None:
            self.note_reading(name, found)

    def _back(self, before: str | None) -> str:
        """Let *before* serve again, and return how that went."""
        if before is None:
            self._systemctl("stop")
            (self._lib / "current").unlink(missing_ok=True)
            return "nothing ran before it, and nothing runs now"
        try:
            self._start(before)
        except NotServing as error:
            return f"release {before}, which ran before, does not serve again either ({error.got})"
        return f"release {before}, which ran before, serves again"

    def _start(self, name: str) -> None:
        """Let the unit run release *name*, and return when it is ready with that release's model.

        Raises:
            NotServing: it is not, in time.
        """
        version = self.release(name).version
        self._systemctl("stop")
        _point(self._lib / "releases" / name / "model", f"../../models/{version}")
        _point(self._lib / "current", f"releases/{name}")
        self._systemctl("reset-failed")
        self._systemctl("start")
        end = time.monotonic() + self.plan.ready_seconds
        while True:
            state, found = self._serving()
            if found == version:
                self._say(f"version {version} is ready")
                return
            if state == "active" and not self._answers_host(name):
                self._say(f"release {name} runs; it is from before a host could ask its server, and may not be ready")
                return
            if state == "failed" or time.monotonic() >= end:
                got = f"{self.plan.unit} is {state or 'not known'}, " + (
                    f"and serves version {found}" if found else f"and not ready within {self.plan.ready_seconds} s"
                    if state != "failed" else "and not ready"
                )  # fmt: skip
                want, fix = f"version {version} of the model is ready", "Its last lines are above; mend what they say"
                raise NotServing(f"release {name}", got, want, fix)
            time.sleep(POLL_SECONDS)

    def _serving(self) -> tuple[str, str]:
        """Return the state of the unit, and the version that it serves; only what runs is asked."""
        state = self._systemctl("is-active")
        return state, self._own.version() if state == "active" else ""

    def _answers_host(self, name: str) -> bool:
        """Return whether release *name* listens on a socket for its host; one of an earlier version does not."""
        try:
            return bool(self._settings(name).get("own_socket"))
        except WorkloadError:
            return True  # then it is not ready either

    def _settings(self, name: str) -> dict[str, Any]:
        """Return the settings of release *name*.

        Raises:
            WorkloadError: they cannot be read.
        """
        path = self._lib / "releases" / name / "settings.json"
        try:
            settings: dict[str, Any] = json.loads(path.read_text())
            return settings
        except (OSError, ValueError) as error:
            want, fix = "its settings can be read", "Run `rackwright up` again"
            raise WorkloadError(str(path), f"got {error}", want, fix) from None

    def _judge(self, name: str) -> float | None:
        """Return which share of the canary's rows is right, if it is as much as it has to be; None without a canary.

        Raises:
            NotServing: too few are right.
        """
        release = self.release(name)
        if release.canary is None:
            return None
        try:
            found = self.measure(name, release.canary)
        except WorkloadError as error:
            raise NotServing(error.where, error.got, error.want, error.fix) from None
        asked = f"at least {release.canary.accuracy:.2%} are asked for"
        if found < release.canary.accuracy:
            got, fix = f"the canary has {found:.4%} right", "Serve another model, or ask less of it"
            raise NotServing(f"release {name} of version {release.version}", got, asked, fix)
        self._say(f"the canary has {found:.4%} right, {asked}")
        return found

    def measure(self, name: str, canary: Canary) -> float:
        """Return which share of the rows of *canary* the server has right, which serves release *name*.

        Raises:
            WorkloadError: the rows cannot be read, or not all of them are answered.
        """
        max_batch = int(self._settings(name).get("max_batch", 32))
        model = published.read(self._lib / "releases" / name / "model")
        return accuracy(self._own, model, Path(canary.data), max_batch)

    def unready(self, name: str) -> str:
        """Return why release *name* cannot be asked; nothing if it can."""
        wanted, (state, found) = self.release(name).version, self._serving()
        if found == wanted:
            return ""
        serving = f"serves version {found} in the place of {wanted}" if found else "is not ready"
        return f"{self.plan.unit} is {state or 'not known'}, and {serving}"

    def release(self, name: str) -> Release:
        return Release.model_validate_json((self._lib / "releases" / name / "release.json").read_bytes())

    def is_there(self, name: str) -> bool:
        """Return whether release *name* and its model are on the host."""
        folder = self._lib / "releases" / name
        return (folder / "release.json").is_file() and (folder / "model" / published.NAME).is_file()

    def current(self) -> str | None:
        """Return the release that serves; one whose directory is gone can serve no more."""
        try:
            name = (self._lib / "current").readlink().name
        except OSError:
            return None
        return name if (self._lib / "releases" / name / "release.json").is_file() else None

    def state(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((self._lib / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        return told

    def _note(self, **changes: Any) -> None:
        self._write("state.json", json.dumps({**self.state(), **changes}, indent=1) + "\n")

    def noted(self) -> Noted:
        """Return what is known of its accuracy, and how it is watched."""
        found = watch_config.read(self._lib / watch_config.NAME)
        watch = self.plan.watch
        return found.model_copy(update={"every_seconds": watch.every_seconds, "change": watch.change} if watch else {})

    def note_reading(self, name: str, found: float) -> Noted:
        """Note which share of its canary release *name* had right just now, and return all that is known then."""
        release = self.release(name)
        assert release.canary is not None
        reading = Reading(
            at=int(time.time()), release=name, version=release.version, rows=Path(release.canary.data).name,
            accuracy=found,
        )  # fmt: skip
        return self.note_watched(watch_config.with_reading(self.noted(), reading, release.canary.accuracy))

    def note_watched(self, noted: Noted) -> Noted:
        self._write(watch_config.NAME, noted.model_dump_json(indent=1) + "\n")
        return noted

    def _write(self, name: str, text: str) -> None:
        """Put *text* into a file of LIB, from one moment to the next."""
        beside = self._lib / f".{name}"
        beside.write_text(text)
        os.chown(beside, -1, self._lib.stat().st_gid)
        beside.chmod(0o640)  # the server's account reads it, whatever root's umask is, and no other does
        beside.replace(self._lib / name)

    def _sweep(self, kept: set[str]) -> None:
        """Remove releases, models and rows that neither of *kept* has; they bear the names that we give."""
        releases = [self.release(name) for name in kept if (self._lib / "releases" / name / "release.json").is_file()]
        versions = {release.version for release in releases}
        data = {Path(release.canary.data).name for release in releases if release.canary}
        for folder, names in (("releases", kept), ("models", versions), ("data", data)):
            found = self._lib / folder
            for path in sorted(found.iterdir()) if found.is_dir() else ():
                if PARTIAL.fullmatch(path.name) or (path.name not in names and NAME.fullmatch(path.stem)):
                    self._say(f"{path} goes")
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _systemctl(self, verb: str) -> str:
        argv = ["systemctl", verb, self.plan.unit]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()

    def _tell_log(self) -> None:
        argv = ["journalctl", "--unit", self.plan.unit, "--lines", str(LOG_LINES), "--output", "cat", "--no-pager"]
        try:
            told = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        except OSError as error:
            told = f"its log cannot be read: {error}"
        for line in told.splitlines():
            self._say(line)


def _taken(descriptor: int) -> bool:
    """Return whether this process holds the lock on a file now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _point(link: Path, target: str) -> None:
    """Let *link* lead to *target* from one moment to the next."""
    beside = link.with_name(f".{link.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(link)


def main(argv: list[str] | None = None) -> int:
    parser = new_parser(
        "workloads.serving.switch",
        __doc__,
        "Exit status: 0 it serves, 2 what it is to read is wrong, 4 it does not serve.",
    )
    parser.add_argument("plan", metavar="SERVER.json", type=Path, help="what the server is")
    parser.add_argument("release", metavar="RELEASE", help="name of a directory below LIB/releases")
    given = parser.parse_args(argv)
    return run(given.plan, lambda switch: switch.to(given.release))


def run(path: Path, work: Callable[[Switch], int | None]) -> int:
    """Let *work* be done with the server whose plan is in the file *path*, and return the exit status."""
    try:
        return work(Switch(Plan.model_validate_json(path.read_bytes()), say)) or 0
    except WorkloadError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_status
    except (OSError, ValidationError) as error:
        print(WorkloadError(str(path), f"got {error}", "it can be read", "Run `rackwright up` again"),
              file=sys.stderr, flush=True)  # fmt: skip
        return 2


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
