"""The official release archive: fetched, held against the pinned checksum, unpacked."""

import hashlib
import http.client
import platform
import shutil
import tarfile
import urllib.request
from pathlib import Path

from rackwright.progress import Progress
from rackwright.toolchain import pins
from rackwright.toolchain.sources import PROGRAMS, Unavailable

TIMEOUT_SECONDS = 10
"""For connecting and for each read: a site that cannot be reached must not cost minutes."""

CHUNK_BYTES = 1 << 20
REPORT_CHUNKS = 32
ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}


def fetch(into: Path, progress: Progress) -> None:
    """Put the programs of the release into *into*; what was fetched before a break is kept beside it.

    Raises:
        Unavailable: No checksum for this computer, the site is not reached, or the archive is not the pinned one.
    """
    system = f"{platform.system().lower()}-{ARCHITECTURES.get(platform.machine(), platform.machine())}"
    wanted = pins.RELEASE_SHA256.get(system)
    if wanted is None:
        raise Unavailable(f"official archive: no checksum is pinned for {system}")
    url = pins.RELEASE_URL.format(version=pins.RELEASE, platform=system)
    archive = into.parent / f"pulumi-{pins.RELEASE}-{system}.tar.gz"
    if not archive.exists() or _sha256(archive) != wanted:
        progress(f"fetching {url}")
        try:
            _download(url, archive, progress)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"official archive: {url} cannot be fetched: {error}") from error
        if (found := _sha256(archive)) != wanted:
            archive.unlink()
            raise Unavailable(f"official archive: {url} has SHA-256 {found}, {wanted} is pinned; thrown away")
    _unpack(archive, into)
    archive.unlink()


def _download(url: str, archive: Path, progress: Progress) -> None:
    """Fetch *url* into *archive*, going on where an earlier attempt broke off if the server can."""
    begun = archive.stat().st_size if archive.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        done = begun if goes_on else 0
        size = done + int(answer.headers["Content-Length"] or 0)
        with archive.open("ab" if goes_on else "wb") as file:
            for number, chunk in enumerate(iter(lambda: answer.read(CHUNK_BYTES), b""), start=1):
                done += file.write(chunk)
                if number % REPORT_CHUNKS == 0:
                    progress(f"  {done >> 20} of {size >> 20} MiB")
    if done < size:
        raise OSError(f"broke off after {done} of {size} bytes; the next run goes on from there")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(archive: Path, into: Path) -> None:
    """Take the programs out of *archive*, and nothing else: it holds the hosts of all languages."""
    with tarfile.open(archive) as tar:
        for name in PROGRAMS:
            try:
                content = tar.extractfile(f"pulumi/{name}")
            except KeyError:
                content = None
            if content is None:
                raise Unavailable(f"official archive: there is no {name} in it")
            with content, (into / name).open("wb") as file:
                shutil.copyfileobj(content, file)
            (into / name).chmod(0o755)
