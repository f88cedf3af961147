"""Pulumi and its Python language host built from Go modules, where no release archive can be had.

The modules are those of modules/*/go.mod, checked against the go.sum beside it. Both programs are stamped with their
version: Pulumi's own libraries refuse an unstamped one.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from rackwright.progress import Progress
from rackwright.toolchain import cache, pins
from rackwright.toolchain.sources import Unavailable

OLDEST_GO = (1, 21)
"""From this one on, Go fetches by itself the newer Go that a module asks for."""

REPORT_SECONDS = 20
SDK = "github.com/pulumi/pulumi/sdk/v3"
MODULES = Path(__file__).parent / "modules"


class Program(NamedTuple):
    """A program and the module, a directory below modules/, that pins what it is built from."""

    module: str
    package: str
    version: str


LANGUAGE_HOST = Program("language", f"{SDK}/python/cmd/pulumi-language-python", pins.LANGUAGE_HOST)
CLI = Program("cli", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", pins.CLI)


class Go:
    """The go command with the environment and the log of one build."""

    def __init__(self, command: str, log: Path, progress: Progress) -> None:
        self.command, self.log, self.say = command, log, progress
        self.caches = cache.directory() / "go"
        """Go's own caches, so that a broken build goes on; elsewhere if GOCACHE or GOMODCACHE say so."""
        self.environment = {
            "GOCACHE": str(self.caches / "build"),
            "GOMODCACHE": str(self.caches / "modules"),
            "GOTOOLCHAIN": "auto",
            **os.environ,
            "CGO_ENABLED": "0",
            "GOWORK": "off",
            "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip(),  # so that the cache can be removed
        }

    def ask(self, *arguments: str, module: str = CLI.module) -> str:
        """Return what go prints; nothing of a failure is lost, the log has it."""
        with self.log.open("a") as log:
            answer = subprocess.run(
                [self.command, *arguments],
                cwd=MODULES / module, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False,
            )  # fmt: skip
        if answer.returncode != 0:
            raise self._failed(arguments)
        return answer.stdout.strip()

    def build(self, program: Program, into: Path) -> None:
        """Build *program*, telling now and then how far it is."""
        flags = f"-s -w -X {SDK}/go/common/version.Version={program.version}"
        arguments = (
            "build", "-v", "-mod=readonly", "-buildvcs=false", "-trimpath", "-tags=osusergo,grpcnotrace",
            f"-ldflags={flags}", f"-o={into}/", program.package,
        )  # fmt: skip
        with self.log.open("a") as log:
            begin = log.tell()
            process = subprocess.Popen(
                [self.command, *arguments], cwd=MODULES / program.module, env=self.environment, stdout=log, stderr=log
            )
            try:
                while self._runs(process):
                    lines = self.log.read_bytes()[begin:].splitlines()
                    fetched = sum(line.startswith(b"go: downloading") for line in lines)
                    self.say(f"  {fetched} modules fetched, {len(lines) - fetched} packages compiled")
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if process.returncode != 0:
            raise self._failed(arguments)

    def forget(self) -> None:
        """Remove Go's caches if they are ours: three gigabytes that only a broken build needs again."""
        shutil.rmtree(self.caches, ignore_errors=True)

    @staticmethod
    def _runs(process: subprocess.Popen[bytes]) -> bool:
        """Wait for *process* and say whether it still runs after REPORT_SECONDS."""
        try:
            process.wait(timeout=REPORT_SECONDS)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _failed(self, arguments: tuple[str, ...]) -> Unavailable:
        last = self.log.read_text(errors="replace").strip().rpartition("\n")[2]
        return Unavailable(f"build from Go modules: go {arguments[0]} failed: {last} (log {self.log})")


def build(into: Path, progress: Progress) -> None:
    """Put the programs into *into*: minutes on few cores, and 3 GB on the way.

    Raises:
        Unavailable: No Go that will do, or go failed.
    """
    command = shutil.which("go")
    if command is None:
        raise Unavailable("build from Go modules: there is no go on PATH, 1.21 or newer would do")
    log = cache.directory() / "logs" / "toolchain.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    go = Go(command, log, progress)
    version = go.ask("env", "GOVERSION")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_GO:
        raise Unavailable(f"build from Go modules: {command} is {version}, 1.21 or newer would do")

    for number, program in enumerate((LANGUAGE_HOST, CLI), start=1):
        name = program.package.rpartition("/")[2]
        progress(f"building {name} {program.version} from Go modules, {number} of 2 (log {log})")
        go.build(program, into)
    script = into / "pulumi-language-python-exec"
    shutil.copyfile(Path(go.ask("list", "-m", "-f={{.Dir}}", SDK)) / "python" / "cmd" / script.name, script)
    script.chmod(0o755)
    go.forget()
