"""Build Pulumi and its Python language host from Go modules, for computers that cannot download a release archive.

Each modules/*/go.mod pins the modules, and the go.sum beside it has their checksums. The build stamps the version into
both programs, because Pulumi's own libraries refuse a program without one.
"""

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


class Program(NamedTuple):
    """A program, and the directory below modules/ with the module that pins its sources."""

    module: str
    package: str
    version: str


LANGUAGE_HOST = Program("language", f"{SDK}/python/cmd/pulumi-language-python", pins.LANGUAGE_HOST)
CLI = Program("cli", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", pins.CLI)


class Go:
    """The go command with the environment and the log of one build."""

    def __init__(self, command: str, log: Path, progress: Progress) -> None:
        self.command, self.log, self.progress = command, log, progress
        self.caches = cache.directory() / "go"
        """Directory of Go's caches, with which an interrupted build resumes; GOCACHE and GOMODCACHE override it."""
        self.environment = {
            "GOCACHE": str(self.caches / "build"),
            "GOMODCACHE": str(self.caches / "modules"),
            "GOTOOLCHAIN": "auto",
            **os.environ,
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

    def build(self, program: Program, into: Path) -> None:
        """Build *program*, and report the progress every REPORT_SECONDS."""
        flags = f"-s -w -X {SDK}/go/common/version.Version={program.version}"
        arguments = (
            "build", "-v", "-mod=readonly", "-buildvcs=false", "-trimpath", "-tags=osusergo,grpcnotrace",
            f"-ldflags={flags}", f"-o={into}/", program.package,
        )  # fmt: skip
        with self.log.open("a") as log:
            start = log.tell()
            process = subprocess.Popen(
                [self.command, *arguments], cwd=MODULES / program.module, env=self.environment, stdout=log, stderr=log
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

    for number, program in enumerate((LANGUAGE_HOST, CLI), start=1):
        name = program.package.rpartition("/")[2]
        progress(f"building {name} {program.version} from Go modules, {number} of 2 (log {log})")
        go.build(program, into)
    script = into / "pulumi-language-python-exec"
    shutil.copyfile(Path(go.query("list", "-m", "-f={{.Dir}}", SDK)) / "python" / "cmd" / script.name, script)
    script.chmod(0o755)
    go.remove_caches()
