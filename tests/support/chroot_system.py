"""The system of a twin's container without its start: people's commands run in it, then the probe, within seconds.

Each change goes to an overlay over the image, as on a host that was installed by packages. Nothing runs afterwards.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.search import search
from rackwright.facts import probe
from rackwright.facts.facts import Facts
from rackwright.stack.stack import TWIN_FILES
from rackwright.twin.container import image
from tests.support.converged_host import declared
from tests.support.expect import need

ENTER = """\
set -e
mount -t overlay -o lowerdir="$1",upperdir="$2/changed",workdir="$2/work" overlay "$2/root"
mount --bind /dev "$2/root/dev"
mount -t proc proc "$2/root/proc"
mount -t sysfs -o ro sysfs "$2/root/sys"
shift
directory=$1
shift
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive \
  chroot "$directory/root" "$@"
"""
PROBE = probe.LOADER.replace(
    "module.main(job)",
    'module.write_facts({"format": job["format"], **module.collect("", bytes.fromhex(job["salt"]))})',
)
"""The probe without the wait for a boot: nothing boots here."""


class ChrootSystem:
    """A copy of the container's system, in which commands run one after another."""

    def __init__(self, directory: Path, loader: str = PROBE) -> None:
        self._directory, self._loader = directory, loader
        self._system = image.prepare("debian-12", lambda text: None)
        for name in ("changed", "work", "root"):
            (directory / name).mkdir()
        (directory / "changed").chmod(0o755)

    @classmethod
    @contextmanager
    def make(cls) -> Iterator[Self]:
        with tempfile.TemporaryDirectory(prefix="rackwright-system-") as directory:
            yield cls(Path(directory))

    def run(self, *argv: str, stdin: bytes = b"") -> bytes:
        """Run a command as root of the system, in a namespace of its own, and return its output."""
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"]
        done = subprocess.run(
            [*command, str(self._system), str(self._directory), *argv], input=stdin, capture_output=True, timeout=300
        )
        text = f"{' '.join(argv)[:200]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}"
        need(done.returncode == 0, text)
        return done.stdout

    def shell(self, script: str) -> None:
        self.run("sh", "-ec", script)

    def facts(self, stdin: bytes | None = None) -> Facts:
        """Return the facts of this version's probe, or of the one whose *stdin* is given."""
        argv = ("python3", *probe.command()[1:-1], self._loader)
        return probe.parse(self.run(*argv, stdin=stdin or probe.stdin(b"s" * 32)), "chroot")

    def findings(self, facts: Facts | None = None) -> dict[str, str]:
        """Return what the rules find of files, by thing, each with its rule and its description."""
        found = search(facts or self.facts(), declaration())
        return {
            finding.thing: f"{rule.id} {finding.found}"
            for rule, finding, is_unknown in found
            if finding.path and not is_unknown
        }

    def reasons(self) -> dict[str, str]:
        """Return why a rule about all files is unknown, by rule."""
        found = search(self.facts(), declaration())
        return {rule.id: finding.found for rule, finding, is_unknown in found if is_unknown and rule.rest}


def declaration() -> HostDeclaration:
    """Return the declaration of a host of which nothing is declared but its network."""
    return replace(declared(), wants={}, ids=frozenset(), image_files=TWIN_FILES)


def rows(facts: Facts) -> dict[str, Any]:
    account: dict[str, Any] = json.loads(json.dumps(facts.raw["integrity"]))
    return account
