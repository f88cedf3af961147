"""apt itself, with a root of its own: it resolves and fetches as a host's apt would, and changes nothing here.

It resolves for a host on which nothing is installed. So a set holds all that it needs, down to the C library: what the
image of a host brings differs from rack to rack, and with it what would be missing.
"""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from rackwright.errors import Refused, SetupError
from rackwright.lock import store
from rackwright.lock.package_sets import PackageSet
from rackwright.progress import Progress
from rackwright.stack.lock_check import ARCHITECTURE
from rackwright.toolchain.apt import COMPONENTS, SUITES, mirrors, network_settings

DownloadProgress = Callable[[float, str], None]
LOCKED = 900
"""Priority of what was locked before: above all else that no role asks for."""
URI = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<digest>[0-9a-f]{64})")
"""What `--print-uris` says of each file."""
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
_FOLDERS = (
    *(f"etc/apt/{name}.d" for name in ("apt.conf", "preferences", "sources.list")),
    *("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"),
)
_INSTALL = ("-y", "--allow-downgrades", "--allow-change-held-packages", "install")


@dataclass(frozen=True)
class Apt:
    """Where apt works for hosts of one system."""

    os: str
    root: Path
    """Kept, so that indexes and half a download need not come twice; one process at a time."""
    trouble: list[str] = field(default_factory=list)
    """What mirrors did not give."""

    def prepare(self, progress: Progress) -> None:
        """Read what there is: at the mirrors, and in the pool. A mirror that does not answer is no reason to end."""
        for folder in _FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "status").touch()
        kept = store.directory() / self.os
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "Packages").write_text(store.index(self.os))
        found = (line.replace(" file:", " copy:") for line in mirrors(SUITES[self.os], COMPONENTS))
        # first: of two equal ones apt takes the first, and what is here need not be fetched
        lines = [f"deb [trusted=yes] file:{kept} ./", *found]
        (self.root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in lines))
        told = _SETTINGS.format(root=self.root, architecture=ARCHITECTURE)
        self._settings.write_text("\n".join([told, *network_settings(), ""]))
        done = self._run("update", "--error-on=any")
        if done.returncode:
            self.trouble[:] = _errors(done.stderr)
            progress(f"{self.os}: mirrors did not give all: {'; '.join(self.trouble)}")

    def resolve(self, wanted: PackageSet, locked: Mapping[str, str], hosts: tuple[str, ...]) -> dict[str, str]:
        """Return what *wanted* is with all that it needs: ``name=version``, and the digest of its file.

        Args:
            locked: What to take rather than what is newer.
            hosts: Who wants it.

        Raises:
            Refused: not all of it can be had, or it does not fit together.
        """
        self._prefer(wanted, locked)
        done = self._run("--print-uris", *_INSTALL, *wanted.packages)
        if done.returncode:
            raise self._cannot(hosts, done.stderr)
        return {_package(found["file"]): found["digest"] for found in URI.finditer(done.stdout)}

    def download(self, wanted: PackageSet, locked: Mapping[str, str], progress: DownloadProgress) -> None:
        """Fetch what of *wanted* is not in the pool; *locked* is all of it. What is half there is gone on with.

        Args:
            progress: Told how many percent are there, and which file comes.

        Raises:
            Refused: not all of it could be had.
        """
        self._prefer(wanted, locked)
        reading, writing = os.pipe()
        argv = ["apt-get", "-q", "-o", f"APT::Status-Fd={writing}", "--download-only", *_INSTALL, *wanted.packages]
        with os.fdopen(reading) as status:
            process = subprocess.Popen(
                argv, env=self._environment, pass_fds=[writing], text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            os.close(writing)
            for line in status:
                sort, _, percent, text = (line.rstrip().split(":", 3) + [""] * 3)[:4]
                if sort == "dlstatus":
                    progress(float(percent), text)
            _, errors = process.communicate()
        if process.returncode:
            raise self._cannot((), errors)

    def collect(self, locked: Mapping[str, str]) -> None:
        """Bring what was downloaded of *locked* into the pool."""
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
            return subprocess.run(["apt-get", "-q", *arguments], env=self._environment, capture_output=True, text=True)
        except FileNotFoundError:
            want, fix = "apt resolves what hosts install", "Run this on Debian, or on a kin of it"
            raise SetupError("this computer", "apt-get not found", want, fix) from None

    def _prefer(self, wanted: PackageSet, locked: Mapping[str, str]) -> None:
        """Let apt choose as on the host, then what was chosen before: of two files, the first decides."""
        folder = self.root / "etc/apt/preferences.d"
        for path in folder.iterdir():
            path.unlink()
        for name, text in wanted.preferences:
            (folder / name).write_text(text)
        pins = (package.partition("=") for package in sorted(locked))
        text = "\n".join(
            f"Package: {name}\nPin: version {version}\nPin-Priority: {LOCKED}\n" for name, _, version in pins
        )
        (folder / "99-locked").write_text(text)

    def _cannot(self, hosts: tuple[str, ...], said: str) -> Refused:
        found = [*_errors(said), *(f"and of mirrors: {line}" for line in self.trouble)]
        return Refused(
            ", ".join(hosts) or self.os,
            f"got no set: apt says {'; '.join(found)}",
            "all that roles promise is at the mirrors of this computer or in the local repository, and fits together",
            "Declare what is there, or fetch it from where it is still to be had",
        )


def _package(file: str) -> str:
    """Return ``name=version`` of a package by apt's name for its file."""
    name, version, _ = file.rsplit(".", 1)[0].split("_")
    return f"{name}={unquote(version)}"


def _errors(said: str) -> list[str]:
    """Return the errors among the lines that apt wrote; where it calls none an error, its warnings."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for sign in ("E: ", "W: "):
        if found := [line.removeprefix(sign) for line in lines if line.startswith(sign)]:
            return found
    return lines[-1:] or ["nothing"]
