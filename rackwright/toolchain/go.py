"""Build programs from Go modules, with versions and checksums that a go.mod and the go.sum beside it pin."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import monotonic

from rackwright import process_tree
from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress, format_remaining
from rackwright.toolchain import cache
from rackwright.toolchain.sources import ToolUnavailable

OLDEST = (1, 21)
"""First version of Go that downloads a newer Go itself if a module asks for it."""

REPORT_SECONDS = 20


class BuildFailed(ToolUnavailable):
    """A command of Go failed."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Programs of one module."""

    module: Path
    """Directory with the go.mod that pins their sources."""
    packages: tuple[str, ...]
    place: str = "."
    """Directory of the programs below the directory of the build."""
    stamps: Mapping[str, str] = field(default_factory=dict)
    """Values of variables that the linker writes into the programs, by the name of the variable."""
    tags: str = "osusergo,grpcnotrace"
    tests: bool = False
    """Whether the programs are the tests of the packages: that of directory `e2e` is `e2e.test`."""


class Go:
    """The go command with the environment and the log of one build."""

    def __init__(self, command: str, log: Path, progress: Progress) -> None:
        self.command, self.log, self.progress = command, log, progress
        self.caches = _caches(log.stem)
        """Directory of Go's caches, with which an interrupted build resumes; GOCACHE and GOMODCACHE override it."""
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self.environment = {
            "GOCACHE": str(self.caches / "build"),
            "GOMODCACHE": str(self.caches / "modules"),
            "GOTOOLCHAIN": "auto",
            "GOENV": str(settings / "go" / "env"),
            **os.environ,
            "XDG_CONFIG_HOME": str(self.caches / "config"),  # go writes its counters there; GOENV has the settings
            "CGO_ENABLED": "0",
            "GOWORK": "off",
            "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip(),  # so that the cache can be removed
        }

    def query(self, *arguments: str, module: Path) -> str:
        """Return the output of go in the directory *module*; the log has its errors in full."""
        with self.log.open("a") as log:
            answer = process_tree.run(
                [self.command, *arguments], cwd=module, env=self.environment, stderr=log
            )  # fmt: skip
        if answer.returncode != 0:
            raise self._failure(arguments)
        return answer.stdout.strip()

    def build(self, programs: Programs, into: Path) -> None:
        """Build *programs*, and report the progress every REPORT_SECONDS."""
        flags = " ".join(("-s -w", *(f"-X {name}={value}" for name, value in programs.stamps.items())))
        common = ("-mod=readonly", "-buildvcs=false", "-trimpath", f"-tags={programs.tags}", f"-ldflags={flags}")
        target = (f"-o={into / programs.place}/", *programs.packages)
        if programs.tests:  # -v of `go test` is about tests, so that the packages are not listed
            self._run(("test", "-c", "-vet=off", *common, *target), programs.module, _fetch_count("compiling"))
            return
        stale = ("list", "-deps", "-f", "{{if .Stale}}x{{end}}", *common, *programs.packages)
        total = self._run(stale, programs.module, _fetch_count("counting packages")).count("x")
        start = monotonic()

        def describe(lines: Sequence[bytes]) -> str:
            done = min(sum(not line.startswith(b"go: ") for line in lines), total)
            return f"{done} of {total} packages compiled{format_remaining(done, total, monotonic() - start)}"

        self._run(("build", "-v", *common, *target), programs.module, describe)

    def _run(self, arguments: Sequence[str], module: Path, describe: Callable[[Sequence[bytes]], str]) -> str:
        """Return what go prints in the directory *module*, and report what *describe* makes of its new lines of log."""
        with self.log.open("a") as log, tempfile.TemporaryFile("w+", dir=self.log.parent) as output:
            start = log.tell()
            process = process_tree.start(
                [self.command, *arguments], cwd=module, env=self.environment, stdout=output, stderr=log
            )
            try:
                while self._is_running(process):
                    self.progress(f"  {describe(self.log.read_bytes()[start:].splitlines())}")
            except BaseException:
                process_tree.stop(process)
                raise
            if process.returncode != 0:
                raise self._failure(arguments)
            output.seek(0)
            return output.read()

    def remove_caches(self) -> None:
        """Remove the caches of rackwright's own: three gigabytes that only an interrupted build needs again.

        They get another name first, because Go takes a module with half of its files for a whole one.
        """
        removed = self.caches.with_name(f"{self.caches.name}.removed")
        shutil.rmtree(removed, ignore_errors=True)
        if self.caches.is_dir():
            self.caches.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)

    @staticmethod
    def _is_running(process: subprocess.Popen[bytes]) -> bool:
        """Return whether *process* still runs after REPORT_SECONDS."""
        try:
            process.wait(timeout=REPORT_SECONDS)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _failure(self, arguments: Sequence[str]) -> ToolUnavailable:
        last = self.log.read_text(errors="replace").strip().rpartition("\n")[2]
        return BuildFailed(f"build from Go modules: go {arguments[0]} failed: {last} (log {self.log})")


def _fetch_count(then: str) -> Callable[[Sequence[bytes]], str]:
    """Return a function of the lines of go's log that returns how many modules it fetched, and what it does *then*."""
    return lambda lines: f"{sum(line.startswith(b'go: downloading') for line in lines)} modules fetched, {then}"


@contextmanager
def hold_builder(name: str, progress: Progress) -> Iterator[Go]:
    """Yield the go command with the lock, the caches and an empty log of the build *name*.

    No build waits for another one. The caches stay if the block ends with an error, and a later build resumes there.

    Raises:
        ToolUnavailable: Go is missing or too old.
    """
    caches = _caches(name)
    with cache.hold_lock(caches.with_name(f"{name}.lock"), progress):
        go = _find(cache.directory() / "logs" / f"{name}.log", progress)
        yield go
        go.remove_caches()


def _caches(name: str) -> Path:
    return cache.directory() / "go" / name


def _find(log: Path, progress: Progress) -> Go:
    """Return the go command of this computer, with an empty *log*.

    Raises:
        ToolUnavailable: Go is missing or too old.
    """
    command = shutil.which("go")
    if command is None:
        raise ToolUnavailable("build from Go modules: there is no go on PATH, Go 1.21 or newer is needed")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    go = Go(command, log, progress)
    version = go.query("env", "GOVERSION", module=cache.directory())
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise ToolUnavailable(f"build from Go modules: {command} is {version}, Go 1.21 or newer is needed")
    return go


def setup_error(subject: str, reason: ToolUnavailable) -> SetupError:
    """Return the error that says why *subject* could not be built, and the way out."""
    if isinstance(reason, BuildFailed):
        help = (
            "Read the log, and run the command again; if it ends in the same way, remove "
            f"{cache.directory() / 'go'} before"
        )
        return SetupError(Diagnostic(subject, str(reason), "a build without an error", help))
    return SetupError(Diagnostic(subject, str(reason), "Go 1.21 or newer", "Install Go, and run the command again"))


def digest(modules: Path) -> str:
    """Return a digest of all sources below the directory *modules*, for the name of what is built from them."""
    files = sorted(file for file in modules.rglob("*") if file.is_file() and file.parent.name != "__pycache__")
    return digest_files(files, modules)


def digest_files(files: Iterable[Path], below: Path) -> str:
    """Return a digest of *files*, with their names relative to the directory *below*."""
    content = sha256()
    for file in files:
        content.update(f"{file.relative_to(below)} {sha256(file.read_bytes()).hexdigest()}\n".encode())
    return content.hexdigest()[:12]
