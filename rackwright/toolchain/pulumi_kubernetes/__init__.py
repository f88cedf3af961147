"""Build the plugin of pulumi-kubernetes from Go modules, for computers that cannot download it.

Two embedded files of its schema are not in the module, and are made of two that are.
"""

import json
import platform
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from rackwright.progress import Progress
from rackwright.toolchain import cache, go
from rackwright.toolchain.go import Programs
from rackwright.toolchain.sources import ToolUnavailable

VERSION = "4.25.0"
"""Version of the plugin, and of the Python package that fits it."""
_MODULE = Path(__file__).parent / "module"
_REPOSITORY = "github.com/pulumi/pulumi-kubernetes"
SOURCES = {
    "provider": (
        f"{_REPOSITORY}/provider/v4@v4.0.0-20260115033456-f47bc2d6f199",
        "h1:j2bphCf7c2YhnBrhwht2f3TNRRgcMImltUlAgzxr9H4=",
    ),
    "sdk": (f"{_REPOSITORY}/sdk/v4@v4.24.0", "h1:dlDJvsugKow8tCaD0yJngc7PXdv8WT2YwPEUmj48tF4="),
}
"""Modules that are changed before the build, with their checksums; the first is the tag of VERSION."""
_COMMAND = "cmd/pulumi-resource-kubernetes"
PROGRAM = Programs(
    _MODULE,
    (f"{_REPOSITORY}/provider/v4/{_COMMAND}",),
    stamps={f"{_REPOSITORY}/provider/v4/pkg/version.Version": VERSION},
)


def ensure(progress: Progress) -> Path:
    """Return the directory with the plugin, after a build if there is none yet.

    Raises:
        SetupError: Go is missing, or the build failed.
    """
    directory = _directory()
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with cache.hold_lock(directory.parent / "lock", progress):
        if not directory.is_dir():
            try:
                with (
                    go.hold_builder("pulumi-kubernetes", progress) as builder,
                    cache.replace_directory(directory) as half_made,
                ):
                    _build(builder, half_made)
            except ToolUnavailable as reason:
                raise go.setup_error("pulumi-kubernetes", reason) from None
    return directory


def built_directory() -> Path | None:
    """Return the directory with the plugin; None if it is not built."""
    directory = _directory()
    return directory if directory.is_dir() else None


def _directory() -> Path:
    return cache.directory() / "pulumi-kubernetes" / f"{VERSION}-{go.digest(_MODULE)}-{platform.machine()}"


def _build(builder: go.Go, into: Path) -> None:
    builder.progress(f"building the plugin of pulumi-kubernetes {VERSION} from Go modules (log {builder.log})")
    with tempfile.TemporaryDirectory(dir=into.parent) as name:
        place = Path(name)
        for file in ("go.mod", "go.sum"):
            shutil.copyfile(_MODULE / file, place / file)
        for source, (module, checksum) in SOURCES.items():
            _copy(builder, module, checksum, place / source)
        embed_schema(place / "provider" / _COMMAND)
        shutil.copyfile(_MODULE / "kinds.go.txt", place / "sdk" / "go" / "kubernetes" / "yaml" / "v2" / "kinds.go")
        builder.build(replace(PROGRAM, module=place), into)


def _copy(builder: go.Go, module: str, checksum: str, place: Path) -> None:
    """Copy the sources of *module* to *place*, where they can be changed.

    Raises:
        ToolUnavailable: they cannot be fetched, or have another checksum.
    """
    answer = json.loads(builder.query("mod", "download", "-json", module, module=place.parent))
    if answer["Sum"] != checksum:
        raise ToolUnavailable(f"build from Go modules: {module} has the checksum {answer['Sum']}, not {checksum}")
    shutil.copytree(answer["Dir"], place, copy_function=shutil.copyfile)


def embed_schema(command: Path) -> None:
    """Write the two files that the program in *command* embeds: its schema with the version, and a mapping of names."""
    schema = json.loads((command / "schema.json").read_text(encoding="utf-8"))
    mapping = json.loads((command / "terraform-mapping.json").read_text(encoding="utf-8"))
    for name, content in (("schema-embed", {**schema, "version": VERSION}), ("terraform-mapping-embed", mapping)):
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        (command / f"{name}.json").write_text(text, encoding="utf-8")
