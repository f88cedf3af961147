"""Download the official release archive, compare its checksum with the pinned one, and unpack the programs."""

import hashlib
import http.client
import platform
import shutil
import tarfile
import urllib.request
from pathlib import Path

from rackwright.progress import Progress
from rackwright.toolchain import pins
from rackwright.toolchain.sources import NODEJS, PROGRAMS, ToolUnavailable

TIMEOUT_SECONDS = 10
"""Timeout of the connection and of each read, short because some computers cannot reach the site."""

CHUNK_BYTES = 1 << 20
REPORT_CHUNKS = 32
ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}


def fetch(into: Path, progress: Progress) -> None:
    """Write the programs of the release into the directory *into*; a partial download stays in its parent directory.

    Raises:
        ToolUnavailable: this computer has no checksum, the download failed, or the archive has another checksum.
    """
    system = f"{platform.system().lower()}-{ARCHITECTURES.get(platform.machine(), platform.machine())}"
    expected = pins.RELEASE_SHA256.get(system)
    if expected is None:
        raise ToolUnavailable(f"official archive: no checksum is pinned for {system}")
    url = pins.RELEASE_URL.format(version=pins.RELEASE, platform=system)
    archive = into.parent / f"pulumi-{pins.RELEASE}-{system}.tar.gz"
    if not archive.exists() or _sha256(archive) != expected:
        progress(f"fetching {url}")
        try:
            _download(url, archive, progress)
        except (OSError, http.client.HTTPException) as error:
            raise ToolUnavailable(f"official archive: the download of {url} failed: {error}") from error
        if (actual := _sha256(archive)) != expected:
            archive.unlink()
            raise ToolUnavailable(
                f"official archive: {url} has SHA-256 {actual}, not the pinned {expected}, and was deleted"
            )
    _unpack(archive, into)
    archive.unlink()


def _download(url: str, archive: Path, progress: Progress) -> None:
    """Download *url* to *archive*, and resume an earlier partial download if the server supports it."""
    offset = archive.stat().st_size if archive.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        is_resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        done = offset if is_resumed else 0
        size = done + int(answer.headers["Content-Length"] or 0)
        with archive.open("ab" if is_resumed else "wb") as file:
            for number, chunk in enumerate(iter(lambda: answer.read(CHUNK_BYTES), b""), start=1):
                done += file.write(chunk)
                if number % REPORT_CHUNKS == 0:
                    progress(f"  {done >> 20} of {size >> 20} MiB")
    if done < size:
        raise OSError(f"it ended after {done} of {size} bytes, and the next run resumes there")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(archive: Path, into: Path) -> None:
    """Extract only the programs of a toolchain from *archive*, which has the language hosts of all languages."""
    with tarfile.open(archive) as tar:
        for name in (*PROGRAMS, NODEJS):
            try:
                content = tar.extractfile(f"pulumi/{name}")
            except KeyError:
                content = None
            if content is None:
                raise ToolUnavailable(f"official archive: there is no {name} in it")
            with content, (into / name).open("wb") as file:
                shutil.copyfileobj(content, file)
            (into / name).chmod(0o755)
