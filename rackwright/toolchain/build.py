"""Build Pulumi and its language hosts from Go modules, for computers that cannot download a release archive.

The build stamps the version into all programs, because Pulumi's own libraries refuse a program without one.
docs/decisions/0053-a-language-host.md has the reason for two language hosts of each language.
"""

import shutil
from pathlib import Path

from rackwright.progress import Progress
from rackwright.toolchain import go, pins
from rackwright.toolchain.go import Programs

SDK = "github.com/pulumi/pulumi/sdk/v3"
MODULES = Path(__file__).parent / "modules"
LANGUAGES = ("python", "nodejs")


def _pulumi(module: str, packages: tuple[str, ...], version: str, place: str) -> Programs:
    return Programs(MODULES / module, packages, place, {f"{SDK}/go/common/version.Version": version})


RUNTIMES = _pulumi(
    "language",
    tuple(f"{SDK}/{language}/cmd/pulumi-language-{language}" for language in LANGUAGES),
    pins.LANGUAGE_RUNTIMES,
    "runtime",
)
CLI = _pulumi("cli", ("github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", "./language-host"), pins.CLI, ".")


def build(into: Path, progress: Progress) -> None:
    """Build the programs into the directory *into*, with minutes of work on few cores and 3 GB of temporary files.

    Raises:
        ToolUnavailable: Go is missing or too old, or a go command failed.
    """
    with go.hold_builder("toolchain", progress) as builder:
        for number, (programs, version) in enumerate(((RUNTIMES, pins.LANGUAGE_RUNTIMES), (CLI, pins.CLI)), start=1):
            names = ", ".join(Path(package).name for package in programs.packages)
            progress(f"building {names} {version} from Go modules, {number} of 2 (log {builder.log})")
            builder.build(programs, into)
        script = into / RUNTIMES.place / "pulumi-language-python-exec"
        source = builder.query("list", "-m", "-f={{.Dir}}", SDK, module=CLI.module)
        shutil.copyfile(Path(source) / "python" / "cmd" / script.name, script)
        script.chmod(0o755)
        for language in LANGUAGES:  # links, because the program's own name selects the language
            (into / f"pulumi-language-{language}").hardlink_to(into / "language-host")
        (into / "language-host").unlink()


def digest() -> str:
    """Return a digest of the sources that are built, for the name of the result."""
    return go.digest(MODULES)
