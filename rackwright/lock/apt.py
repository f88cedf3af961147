"""Resolve and download packages with apt in a root directory of its own, which leaves this computer unchanged.

apt resolves for a host without any installed package. A set therefore contains all its dependencies, down to the
C library: images of hosts contain different packages in each rack, so that a smaller set might lack some.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from rackwright import process_tree
from rackwright.errors import ChangeRefused, Diagnostic, SetupError
from rackwright.lock import store
from rackwright.lock.package_sets import PackageSet
from rackwright.progress import Progress
from rackwright.stack.lock_check import ARCHITECTURE
from rackwright.toolchain.apt import COMPONENTS, SUITES, mirrors, network_settings

DownloadProgress = Callable[[float, str], None]
LOCKED = 900
"""Priority of locked versions: above all other versions without a preference of a role."""
LEAST = 90
"""Priority of a source that only gives what no mirror has, unless a role or the lock names a version."""
URI = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<digest>[0-9a-f]{64})")
"""A line that `--print-uris` prints for each file."""
_SETTINGS = """\
Dir "{root}/";
Dir::State::status "{root}/status";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "3";
"""
_POOL = "rackwright-pool"
_RELEASE = f"Label: {_POOL}\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n {{}} {{}} Packages\n"
"""File by which apt knows the pool; the values are the digest and the size of the index."""
_PREFER_MIRRORS = f"Package: *\nPin: release l={_POOL}\nPin-Priority: {LEAST}\n"
"""Preference of the mirrors: the pool has packages of every vendor, in versions that other hosts need."""
_OF_VENDORS = ("etc/apt/sources.list.d", "etc/apt/keyrings")
_FOLDERS = (
    "etc/apt/keyrings",
    *(f"etc/apt/{name}.d" for name in ("apt.conf", "preferences", "sources.list")),
    *("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"),
)
_INSTALL = ("-y", "--allow-downgrades", "--allow-change-held-packages", "install")


@dataclass(frozen=True)
class Apt:
    """apt with a root directory for the hosts of one system."""

    os: str
    root: Path
    """Root directory for one process at a time; it stays, so that indexes and partial downloads are reused."""
    sources: tuple[tuple[str, str], ...] = ()
    """Path and text of each file with a vendor's repository or its key, as hosts have them."""
    mirror_errors: list[str] = field(default_factory=list)
    """Errors of apt while it read the mirrors."""

    def prepare(self, progress: Progress) -> None:
        """Read the indexes of the mirrors and of the pool; errors of mirrors are reported and do not end the work."""
        for folder in _FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "status").touch()
        pool = store.directory() / self.os
        pool.mkdir(parents=True, exist_ok=True)
        index = store.index(self.os).encode()
        (pool / "Packages").write_bytes(index)
        (pool / "Release").write_text(_RELEASE.format(hashlib.sha256(index).hexdigest(), len(index)))
        sources = (line.replace(" file:", " copy:") for line in mirrors(SUITES[self.os], COMPONENTS))
        # the pool is first: apt takes the first of two equal files, and files of the pool need no download
        lines = [f"deb [trusted=yes] file:{pool} ./", *sources]
        (self.root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in lines))
        self._write_sources()
        settings = _SETTINGS.format(root=self.root, architecture=ARCHITECTURE)
        self._settings.write_text("\n".join([settings, *network_settings(), ""]))
        done = self._run("update", "--error-on=any")
        if done.returncode:
            self.mirror_errors[:] = _errors(done.stderr)
            progress(f"{self.os}: apt could not read all mirrors: {'; '.join(self.mirror_errors)}")

    def _write_sources(self) -> None:
        """Write the vendors' repositories and keys, and remove those of an earlier lock."""
        for folder in _OF_VENDORS:
            for path in (self.root / folder).iterdir():
                path.unlink()
        for name, text in self.sources:
            path = self.root / name.removeprefix("/")
            path.write_text(text.replace(" /etc/apt/keyrings/", f" {self.root}/etc/apt/keyrings/"))

    def resolve(self, package_set: PackageSet, locked: Mapping[str, str], hosts: tuple[str, ...]) -> dict[str, str]:
        """Return the digest of each file of *package_set* and its dependencies, by ``name=version``.

        Args:
            locked: Versions that apt prefers to newer ones.
            hosts: Hosts that want the packages, for messages.

        Raises:
            ChangeRefused: some packages are not available, or they conflict.
        """
        self._prefer(package_set, locked)
        done = self._run("--print-uris", *_INSTALL, *package_set.packages)
        if done.returncode:
            raise self._refusal(hosts, done.stderr)
        return {_package(line["file"]): line["digest"] for line in URI.finditer(done.stdout)}

    def download(self, package_set: PackageSet, locked: Mapping[str, str], progress: DownloadProgress) -> None:
        """Download the packages of *package_set* that are not in the pool, and resume partial downloads.

        Args:
            locked: Digests of all packages of *package_set* and their dependencies, by ``name=version``.
            progress: Receives the percentage that is complete and the name of the current file.

        Raises:
            ChangeRefused: some packages could not be downloaded.
        """
        self._prefer(package_set, locked)
        reading, writing = os.pipe()
        argv = ["apt-get", "-q", "-o", f"APT::Status-Fd={writing}", "--download-only", *_INSTALL, *package_set.packages]
        with os.fdopen(reading) as status:
            process = process_tree.start(
                argv, env=self._environment, pass_fds=[writing], text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            os.close(writing)
            try:
                for line in status:
                    kind, _, percent, text = (line.rstrip().split(":", 3) + [""] * 3)[:4]
                    if kind == "dlstatus":
                        progress(float(percent), text)
                _, errors = process.communicate()
            except BaseException:
                process_tree.stop(process)
                raise
        if process.returncode:
            raise self._refusal((), errors)

    def collect(self, locked: Mapping[str, str]) -> None:
        """Move the downloaded packages of *locked* into the pool."""
        for path in sorted((self.root / "var/cache/apt/archives").glob("*.deb")):
            if digest := locked.get(_package(path.name)):
                store.take(path, store.package(self.os, digest), digest)

    @property
    def _settings(self) -> Path:
        return self.root / "apt.conf"

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self._settings), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}

    def _run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        try:
            return process_tree.run(["apt-get", "-q", *arguments], env=self._environment)
        except FileNotFoundError:
            problem, note = "the program apt-get is missing", "it resolves the packages of the hosts"
            help = "Run the command on Debian, or on a system that is based on Debian"
            raise SetupError(Diagnostic("this computer", problem, help=help, note=note)) from None

    def _prefer(self, package_set: PackageSet, locked: Mapping[str, str]) -> None:
        """Write the host's preferences of versions, and after them the locked versions: the first file has priority."""
        folder = self.root / "etc/apt/preferences.d"
        for path in folder.iterdir():
            path.unlink()
        for name, text in package_set.preferences:
            (folder / name).write_text(text)
        pins = (package.partition("=") for package in sorted(locked))
        text = "\n".join(
            f"Package: {name}\nPin: version {version}\nPin-Priority: {LOCKED}\n" for name, _, version in pins
        )
        (folder / "99-locked").write_text(f"{_PREFER_MIRRORS}\n{text}")

    def _refusal(self, hosts: tuple[str, ...], stderr: str) -> ChangeRefused:
        errors = [*_errors(stderr), *(f"and of mirrors: {line}" for line in self.mirror_errors)]
        return ChangeRefused(
            Diagnostic(
                ", ".join(hosts) or self.os,
                f"apt cannot resolve the packages: {'; '.join(errors)}",
                "packages that the mirrors or the local repository have, and that do not conflict",
                "Declare such packages, or add a mirror that has the missing ones",
            )
        )


def _package(file: str) -> str:
    """Return ``name=version`` of the package with apt's file name *file*."""
    name, version, _ = file.rsplit(".", 1)[0].split("_")
    return f"{name}={unquote(version)}"


def _errors(stderr: str) -> list[str]:
    """Return the errors that apt printed; its warnings if there is no error; otherwise the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for prefix in ("E: ", "W: "):
        if errors := [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]:
            return errors
    return lines[-1:] or ["nothing"]
