"""system.sh: what it finds missing and what it does then, on a PATH made of fakes."""

import shutil
import subprocess
from pathlib import Path

import pytest

import rackwright.toolchain

FOLDER = Path(rackwright.toolchain.__file__).parent
NEEDED = ("sh", "dirname", "tail", "tr", "sed", "sort", "mkdir", "env")


class Computer:
    """A PATH with little on it, and the words that apt-get was called with."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, root / "calls"
        (root / "bin").mkdir()
        for name in NEEDED:
            (root / "bin" / name).symlink_to(shutil.which(name) or name)
        self.put("id", "echo 0")

    def put(self, name: str, script: str = "") -> None:
        command = self.root / "bin" / name
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)

    def put_apt(self, status: int = 0) -> None:
        self.put("apt-get", f'echo "$*" >>{self.calls}; echo "Setting up two:amd64 (1.0) ..."; exit {status}')

    def run(self, listed: str, *options: str) -> subprocess.CompletedProcess[str]:
        (self.root / "list").write_text(listed)
        # A copy, since the script adds the directories that hold the commands of root.
        script = (FOLDER / "system.sh").read_text().replace("PATH=$PATH:/usr/sbin:/sbin", "")
        (self.root / "system.sh").write_text(script)
        return subprocess.run(
            ["/bin/sh", str(self.root / "system.sh"), *options, str(self.root / "list")],
            env={"PATH": str(self.root / "bin"), "HOME": str(self.root)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def computer(tmp_path):
    return Computer(tmp_path)


def test_nothing_is_done_where_nothing_is_missing(computer):
    """
    Commands, files and modules are looked for, each in its own way.
    """
    computer.put_apt()
    computer.put("python3", '[ "$2" = "import ensurepip" ]')
    computer.put("one")

    answer = computer.run(f"# why\n\none one # because\ntwo {computer.root}/list\nthree python3:ensurepip\n")

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert not computer.calls.exists()


def test_what_is_missing_is_printed_and_nothing_is_installed(computer):
    computer.put_apt()
    computer.put("one")

    answer = computer.run("package-one one\npackage-two two\npackage-three /no/such/file\n", "--missing")

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "package-two\npackage-three\n", "")
    assert not computer.calls.exists()


def test_only_what_is_missing_is_installed_and_each_is_named(computer):
    """
    Dependencies are named as well, from apt's own log.
    """
    computer.put_apt()
    computer.put("one")

    answer = computer.run("package-one one\npackage-two two\npackage-three /no/such/file\n")

    assert answer.returncode == 0
    assert "installing package-two\ninstalling package-three\n" in answer.stdout
    assert "package-one" not in answer.stdout
    assert answer.stdout.endswith("installed, with dependencies: two\n")
    assert computer.calls.read_text().endswith("install --no-install-recommends package-two package-three\n")


def test_without_apt_the_missing_things_are_named(computer):
    """
    Other systems have other package names, so the commands are named.
    """
    answer = computer.run("package-two two\n")

    assert answer.returncode == 2
    assert "missing on this computer: two\n" in answer.stderr


def test_without_root_the_command_for_root_is_named(computer):
    """
    Nobody is asked for a password where nobody can answer.
    """
    computer.put_apt()
    computer.put("id", "echo 1000")
    computer.put("sudo", "exit 1")

    answer = computer.run("package-two two\n")

    assert answer.returncode == 2
    assert "Run as root: apt-get install --no-install-recommends package-two\n" in answer.stderr
    assert not computer.calls.exists()


def test_sudo_that_asks_nothing_is_used(computer):
    """
    As on a machine where one is an administrator.
    """
    computer.put_apt()
    computer.put("id", "echo 1000")
    computer.put("sudo", '[ "$1" = -n ] && exit 0; exec "$@"')

    assert computer.run("package-two two\n").returncode == 0
    assert "package-two" in computer.calls.read_text()


def test_a_failed_installation_fails(computer):
    """
    With the end of apt's log, and where the rest is.
    """
    computer.put_apt(status=100)

    answer = computer.run("package-two two\n")

    assert answer.returncode == 2
    assert "Setting up two" in answer.stderr
    assert f"log {computer.root}/.cache/rackwright/logs/system.log" in answer.stderr


def test_every_package_says_what_it_brings_and_why():
    """
    Each line of the real list: package, thing, reason.
    """
    for line in (FOLDER / "packages.debian.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            facts, _, reason = line.partition("#")
            assert len(facts.split()) == 2, line
            assert reason.strip(), line
