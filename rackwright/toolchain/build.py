"""Build Pulumi and its language hosts from Go modules, for computers that cannot download a release archive.

Each modules/*/go.mod pins the modules, and the go.sum beside it has their checksums. The build stamps the version into
all programs, because Pulumi's own libraries refuse a program without one. docs/decisions/0053-a-language-host.md has
the reason for two language hosts of each language.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from rackwright.progress import Progress
from rackwright.toolchain import cache, pins
from rackwright.toolchain.sources import ToolUnavailable

OLDEST_GO = (1, 21)
"""First version of Go that downloads a newer Go itself if a module asks for it."""

REPORT_SECONDS = 20
SDK = "github.com/pulumi/pulumi/sdk/v3"
MODULES = Path(__file__).parent / "modules"


class Programs(NamedTuple):
    """Programs, and the directory below modules/ with the module that pins their sources."""

    module: str
    packages: tuple[str, ...]
    version: str
    place: str
    """Directory of the programs in the toolchain."""


LANGUAGES = ("python", "nodejs")
RUNTIMES = Programs(
    "language",
    tuple(f"{SDK}/{language}/cmd/pulumi-language-{language}" for language in LANGUAGES),
    pins.LANGUAGE_RUNTIMES,
    "runtime",
)
CLI = Programs("cli", ("github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", "./language-host"), pins.CLI, ".")


class Go:
    """The go command with the environment and the log of one build."""

    def __init__(self, command: str, log: Path, progress: Progress) -> None:
        self.command, self.log, self.progress = command, log, progress
        self.caches = cache.directory() / "go"
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

    def query(self, *arguments: str, module: str = CLI.module) -> str:
        """Return the output of go; the log has its errors in full."""
        with self.log.open("a") as log:
            answer = subprocess.run(
                [self.command, *arguments],
                cwd=MODULES / module, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False,
            )  # fmt: skip
        if answer.returncode != 0:
            raise self._failure(arguments)
        return answer.stdout.strip()

    def build(self, programs: Programs, into: Path) -> None:
        """Build *programs*, and report the progress every REPORT_SECONDS."""
        flags = f"-s -w -X {SDK}/go/common/version.Version={programs.version}"
        arguments = (
            "build", "-v", "-mod=readonly", "-buildvcs=false", "-trimpath", "-tags=osusergo,grpcnotrace",
            f"-ldflags={flags}", f"-o={into / programs.place}/", *programs.packages,
        )  # fmt: skip
        with self.log.open("a") as log:
            start = log.tell()
            process = subprocess.Popen(
                [self.command, *arguments], cwd=MODULES / programs.module, env=self.environment, stdout=log, stderr=log
            )
            try:
                while self._is_running(process):
                    lines = self.log.read_bytes()[start:].splitlines()
                    modules = sum(line.startswith(b"go: downloading") for line in lines)
                    self.progress(f"  {modules} modules fetched, {len(lines) - modules} packages compiled")
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if process.returncode != 0:
            raise self._failure(arguments)

    def remove_caches(self) -> None:
        """Remove the caches of rackwright's own: three gigabytes that only an interrupted build needs again."""
        shutil.rmtree(self.caches, ignore_errors=True)

    @staticmethod
    def _is_running(process: subprocess.Popen[bytes]) -> bool:
        """Return whether *process* still runs after REPORT_SECONDS."""
        try:
            process.wait(timeout=REPORT_SECONDS)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _failure(self, arguments: tuple[str, ...]) -> ToolUnavailable:
        last = self.log.read_text(errors="replace").strip().rpartition("\n")[2]
        return ToolUnavailable(f"build from Go modules: go {arguments[0]} failed: {last} (log {self.log})")


def build(into: Path, progress: Progress) -> None:
    """Build the programs into the directory *into*, with minutes of work on few cores and 3 GB of temporary files.

    Raises:
        ToolUnavailable: Go is missing or too old, or a go command failed.
    """
    command = shutil.which("go")
    if command is None:
        raise ToolUnavailable("build from Go modules: there is no go on PATH, Go 1.21 or newer is needed")
    log = cache.directory() / "logs" / "toolchain.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    go = Go(command, log, progress)
    version = go.query("env", "GOVERSION")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_GO:
        raise ToolUnavailable(f"build from Go modules: {command} is {version}, Go 1.21 or newer is needed")

    for number, programs in enumerate((RUNTIMES, CLI), start=1):
        names = ", ".join(Path(package).name for package in programs.packages)
        progress(f"building {names} {programs.version} from Go modules, {number} of 2 (log {log})")
        go.build(programs, into)
    script = into / RUNTIMES.place / "pulumi-language-python-exec"
    shutil.copyfile(Path(go.query("list", "-m", "-f={{.Dir}}", SDK)) / "python" / "cmd" / script.name, script)
    script.chmod(0o755)
    for language in LANGUAGES:  # links, because the program's own name selects the language
        (into / f"pulumi-language-{language}").hardlink_to(into / "language-host")
    (into / "language-host").unlink()
    go.remove_caches()


def digest() -> str:
    """Return a digest of the sources that are built, for the name of the result."""
    files = sorted(file for file in MODULES.rglob("*") if file.is_file())
    content = hashlib.sha256()
    for file in files:
        content.update(f"{file.relative_to(MODULES)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return content.hexdigest()[:12]
