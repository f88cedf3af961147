"""Let a server of this host serve another release; where that does not answer, what ran before serves again.

    python -m workloads.serving.switch /etc/rackwright/servers/digits/server.json 3f2a99ab01cd

A release is a directory: which model, the settings, and the code that serves it. Root runs this.

LIB/
    current -> releases/3f2a99ab01cd
    state.json                              the release before, and one that was refused, with the reason
    releases/3f2a99ab01cd/release.json      version of the model, and what the canary asks
    releases/3f2a99ab01cd/settings.json
    releases/3f2a99ab01cd/workloads.zip
    releases/3f2a99ab01cd/model -> ../../models/6a0b…
    models/6a0b…/                           under its version
    data/…                                  rows of canaries
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workloads.common.errors import WorkloadError
from workloads.serving import model as published
from workloads.serving.ask import Own, accuracy
from workloads.serving.model import Strict

POLL_SECONDS = 0.2
LOG_LINES = 6
NAME = re.compile(r"[0-9a-f]{12}")
"""Of a release and of a model: nothing else below LIB is ever removed."""
Say = Callable[[str], None]


class Plan(Strict):
    """What the host's server.json says."""

    name: str
    unit: str
    lib: str
    host: str
    port: int
    tls: bool
    key: str | None = None
    """File of the key by which the host asks."""
    ready_seconds: int


class Canary(Strict):
    data: str
    accuracy: float


class Release(Strict):
    version: str
    canary: Canary | None = None


class NotServing(WorkloadError):
    """A server that does not do what it was started for."""

    exit_status = 4


class Switch:
    """One server of this host."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan, self._say = plan, say
        self._lib = Path(plan.lib)
        key = Path(plan.key).read_text().strip() if plan.key else None
        self._own = Own(plan.host, plan.port, plan.tls, key)

    def to(self, name: str) -> None:
        """Serve release *name*; what is neither it nor the one before is then removed.

        Raises:
            NotServing: it does not; what ran before serves again, or it is said that it does not.
        """
        before = self._current()
        try:
            self._start(name)
            self._judge(name)
        except NotServing as error:
            self._tell_log()
            self._note(refused={"release": name, "version": self._release(name).version, "why": error.got})
            if before == name:
                raise
            raise NotServing(error.where, f"{error.got}; {self._back(before)}", error.want, error.fix) from None
        state = self._state()
        previous = before if before not in (None, name) else state.get("previous")
        self._note(previous=previous, refused=None)
        self._sweep({name, str(previous)})

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
        version = self._release(name).version
        self._systemctl("stop")
        _point(self._lib / "releases" / name / "model", f"../../models/{version}")
        _point(self._lib / "current", f"releases/{name}")
        self._systemctl("reset-failed")
        self._systemctl("start")
        end = time.monotonic() + self.plan.ready_seconds
        while (found := self._own.version()) != version:
            state = self._systemctl("is-active")
            if state == "failed" or time.monotonic() >= end:
                got = f"{self.plan.unit} is {state or 'not known'}, " + (
                    f"and serves version {found}" if found else f"and not ready within {self.plan.ready_seconds} s"
                    if state != "failed" else "and not ready"
                )  # fmt: skip
                want, fix = f"version {version} of the model is ready", "Its last lines are above; mend what they say"
                raise NotServing(f"release {name}", got, want, fix)
            time.sleep(POLL_SECONDS)
        self._say(f"version {version} is ready")

    def _judge(self, name: str) -> None:
        """Return if the canary's rows are answered as they have to be.

        Raises:
            NotServing: too few are right.
        """
        release = self._release(name)
        if release.canary is None:
            return
        directory = self._lib / "releases" / name
        model = published.read(directory / "model")
        settings = json.loads((directory / "settings.json").read_text())
        try:
            found = accuracy(self._own, model, Path(release.canary.data), int(settings.get("max_batch", 32)))
        except WorkloadError as error:
            raise NotServing(error.where, error.got, error.want, error.fix) from None
        if found < release.canary.accuracy:
            got, fix = f"the canary has {found:.4%} right", "Serve another model, or ask less of it"
            want = f"at least {release.canary.accuracy:.2%} are asked for"
            raise NotServing(f"release {name} of version {release.version}", got, want, fix)
        self._say(f"the canary has {found:.4%} right, at least {release.canary.accuracy:.2%} are asked for")

    def _release(self, name: str) -> Release:
        return Release.model_validate_json((self._lib / "releases" / name / "release.json").read_bytes())

    def _current(self) -> str | None:
        """Return the release that serves; one whose directory is gone can serve no more."""
        try:
            name = (self._lib / "current").readlink().name
        except OSError:
            return None
        return name if (self._lib / "releases" / name / "release.json").is_file() else None

    def _state(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((self._lib / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        return told

    def _note(self, **changes: Any) -> None:
        beside = self._lib / ".state.json"
        beside.write_text(json.dumps({**self._state(), **changes}, indent=1) + "\n")
        beside.replace(self._lib / "state.json")

    def _sweep(self, kept: set[str]) -> None:
        """Remove releases, models and rows that neither of *kept* has; they bear the names that we give."""
        releases = [self._release(name) for name in kept if (self._lib / "releases" / name / "release.json").is_file()]
        versions = {release.version for release in releases}
        data = {Path(release.canary.data).name for release in releases if release.canary}
        for folder, names in (("releases", kept), ("models", versions), ("data", data)):
            found = self._lib / folder
            for path in sorted(found.iterdir()) if found.is_dir() else ():
                if path.name not in names and NAME.fullmatch(path.stem):
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


def _point(link: Path, target: str) -> None:
    """Let *link* lead to *target* from one moment to the next."""
    beside = link.with_name(f".{link.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(link)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m workloads.serving.switch",
        description=__doc__,
        epilog="Exit status: 0 it serves, 2 what it is to read is wrong, 4 it does not serve.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("plan", metavar="SERVER.json", type=Path, help="what the server is")
    parser.add_argument("release", metavar="RELEASE", help="name of a directory below LIB/releases")
    given = parser.parse_args(argv)
    try:
        Switch(Plan.model_validate_json(given.plan.read_bytes()), lambda text: print(text, flush=True)).to(
            given.release
        )
    except WorkloadError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_status
    except (OSError, ValidationError) as error:
        print(WorkloadError(str(given.plan), f"got {error}", "it can be read", "Run `rackwright up` again"),
              file=sys.stderr, flush=True)  # fmt: skip
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
