"""Line 5: the operations log, as commands write it, under tampering, a stolen key, two operators and a full disk."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rackwright.log.entry import sign
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.operations_log import new_key
from tests.support.tampering import WAYS, Sample, joined, parsed, sample_of

RACKWRIGHT = str(Path(sys.executable).with_name("rackwright"))
FLEET = """\
fleet: logged
ssh: {logins: [{name: admin, user: root, agent: true}]}
hosts:
  alpha:
    profile: virtual
    os: debian-12
    address: 10.44.0.11
    identity: {serial: LOGGED-01}
    drives: [{serial: L-BOOT, boot: true}, {serial: SPARE-0}]
"""
SETTINGS = "config: {'rackwright:fleet': fleet.yaml, 'rackwright:target': rack}\n"
COMMANDS = 5
"""Commands of each operator; each writes two entries."""
FULL_BYTES = 64 << 10


@dataclass(frozen=True)
class Operator:
    """An operator with a project, a log and a key."""

    log: Log
    project: Path
    directory: Path
    """Directory of the log, which operators may share."""
    key: Path

    def __post_init__(self) -> None:
        (self.project / "stacks").mkdir(parents=True)
        (self.project / "Pulumi.yaml").write_text("name: rackwright\nruntime: python\n")
        (self.project / "stacks/Pulumi.lab.yaml").write_text(SETTINGS)
        (self.project / "stacks/fleet.yaml").write_text(FLEET)

    @property
    def environment(self) -> dict[str, str]:
        own = {"RACKWRIGHT_LOG": str(self.directory), "RACKWRIGHT_LOG_KEY": str(self.key)}
        return {**os.environ, **own, "RACKWRIGHT_LOG_HEADS": ""}

    @property
    def file(self) -> Path:
        return self.directory / "operations.jsonl"

    @property
    def fleet(self) -> str:
        return (self.project / "stacks/fleet.yaml").read_text()

    def __call__(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.log.run([RACKWRIGHT, *arguments], self.project, self.environment, timeout=300)
        need(done.returncode == status, f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-300:]}")
        return done

    def replace(self, number: int, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Replace spare *number* by the next one in the fleet's file: a change that needs no host."""
        return self("drive", "replace", "lab", "alpha", f"SPARE-{number}", f"SPARE-{number + 1}", status=status)

    def attempt(self, number: int) -> subprocess.CompletedProcess[str]:
        """Replace spare *number*, whatever the status is."""
        argv = [RACKWRIGHT, "drive", "replace", "lab", "alpha", f"SPARE-{number}", f"SPARE-{number + 1}"]
        return self.log.run(argv, self.project, self.environment, timeout=300)

    def verify(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self("log", "verify", *arguments, "--json", status=status).stdout)


@pytest.fixture
def operator(log: Log) -> Operator:
    folder = log.empty_directory()
    return Operator(log, folder / "project", folder / "log", new_key(folder / "key"))


def sample(operator: Operator) -> Sample:
    """Return a log of ten entries, with the key of the operator and a foreign one."""
    for number in range(COMMANDS):
        operator.replace(number)
    content = b"".join(operator.file.read_bytes().splitlines(keepends=True)[:10])
    operator.file.write_bytes(content)
    return sample_of(content, operator.key, new_key(operator.key.with_name("foreign")))


@line("audit", 5, "tampering")
def test_each_way_to_tamper_with_the_log_is_named(log: Log, operator: Operator) -> str:
    made = sample(operator)
    heads = operator.directory / "heads"
    operator("log", "push", "--to", str(heads))
    need(operator.verify("--heads", str(heads))["broken"] is None, "the untouched log is not whole")
    for tamper, sort, number, _ in WAYS:
        operator.file.write_bytes(joined(tamper(made)))
        broken = operator.verify(status=1)["broken"]
        need((broken["sort"], broken["line"]) == (sort, number), f"{tamper.__name__}: {broken['problem']}")
    operator.file.write_bytes(joined(made.lines[:-3]))
    need(operator.verify()["broken"] is None, "a cut end shows without a second place")
    broken = operator.verify("--heads", str(heads), status=1)["broken"]
    need(broken["sort"] == "truncated", broken["problem"])
    operator.file.write_bytes(made.content[:-30])
    need(operator.verify(status=1)["broken"]["sort"] == "truncated", "half a line is not named")
    return f"{len(WAYS) + 2} ways, each named at its place"


@line("audit", 5, "stolen-key")
def test_a_stolen_key_signs_nothing_after_its_revocation(log: Log, operator: Operator) -> str:
    """The thief has the key and the file, and needs no command of ours."""
    made = sample(operator)
    fresh, heads = new_key(operator.key.with_name("fresh")), operator.directory / "heads"
    operator("log", "add-key", f"{fresh}.pub")
    owner = Operator(log, operator.project.with_name("owner"), operator.directory, fresh)
    owner("log", "revoke-key", made.own.key.fingerprint, "--reason", "stolen")
    owner("log", "push", "--to", str(heads))
    refused = operator.replace(COMMANDS, status=2)
    need("was revoked" in refused.stderr, f"another reason: {refused.stderr}")
    need("SPARE-5" in operator.fleet, "a refused command has changed the fleet")

    content = operator.file.read_bytes()
    last = parsed(content.splitlines()[-1])
    entry: Any = {**last.data, "event": "began", "sequence": last.sequence + 1, "previous": last.hash}
    operator.file.write_bytes(content + sign(entry, made.own).encode())
    broken = owner.verify(status=1)["broken"]
    need((broken["sort"], broken["sequence"]) == ("revoked_key", last.sequence + 1), broken["problem"])

    log("the thief removes the revocation, and signs another history")
    lines = content.splitlines()[:-2]
    before = parsed(lines[-1])
    entry = {**before.data, "event": "began", "sequence": before.sequence + 1, "previous": before.hash}
    operator.file.write_bytes(joined([*lines, sign(entry, made.own).encode()[:-1]]))
    need(owner.verify()["broken"] is None, "the key is valid in this history")
    [place] = owner.verify("--heads", str(heads), status=1)["heads"]
    need("has lost the entry about their key" in place["problem"], place["problem"])
    signers = operator.directory / "signers"
    signers.write_text(
        "".join(f"operator {key.with_name(f'{key.name}.pub').read_text()}\n" for key in (operator.key, fresh))
    )
    broken = owner.verify("--heads", str(heads), "--signers", str(signers), status=1)["broken"]
    need((broken["sort"], broken["line"]) == ("truncated", len(lines) + 2), broken["problem"])
    refused = owner("log", "push", "--to", str(heads), status=1)
    need("is not signed by a key of this log" in refused.stderr, refused.stderr)
    return "an entry after the revocation is named, and a history without it differs from the copied head"


@line("audit", 5, "two-operators")
def test_two_operators_append_at_once(log: Log, operator: Operator) -> str:
    second = new_key(operator.key.with_name("second"))
    other = Operator(log, operator.project.with_name("other"), operator.directory, second)
    operator.replace(0)
    operator("log", "add-key", f"{second}.pub")
    running = [
        (each, number, subprocess.Popen(["/bin/sh", "-c", script(number)], cwd=each.project, env=each.environment))
        for each, number in ((operator, 1), (other, 0))
    ]
    for each, number, process in running:
        need(process.wait(600) == 0, f"a command of {each.project.name} failed")
        need(f"SPARE-{number + COMMANDS}" in each.fleet, f"{each.project.name} has another spare")
    found = operator.verify()
    entries = 1 + 2 + 1 + 2 * 2 * COMMANDS
    need((found["broken"], found["entries"], found["unfinished"]) == (None, entries, []), f"got {found}")
    return f"{2 * COMMANDS} commands of two processes and keys: {entries} entries, whole"


def script(first: int) -> str:
    """Return a shell script that replaces spare *first* and the following ones."""
    numbers = range(first, first + COMMANDS)
    return " && ".join(
        f"'{RACKWRIGHT}' drive replace lab alpha SPARE-{number} SPARE-{number + 1} 2>/dev/null" for number in numbers
    )


@line("audit", 5, "full-disk")
def test_a_full_disk_stops_a_change_before_it_begins(log: Log, operator: Operator) -> str:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem")
    with small_filesystem(operator.directory):
        operator.replace(0)
        filler = operator.directory / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
        log("the last page of the log has room for some entries")
        spare, statuses = 1, list[int]()
        while not statuses or statuses[-1] != 2:
            whole, fleet = operator.file.read_bytes(), operator.fleet
            done = operator.attempt(spare)
            statuses.append(done.returncode)
            need(done.returncode in (0, 2, 4), f"ended with {done.returncode}: {done.stderr}")
            need(not done.returncode or "No space left on device" in done.stderr, f"another reason: {done.stderr}")
            spare += done.returncode != 2
        need(operator.fleet == fleet, "the fleet has changed")
        need(operator.file.read_bytes() == whole, "the log has changed")
        filler.unlink()
        operator.replace(spare)
        found = operator.verify()
        missing = statuses.count(4)
        entries = 1 + 2 * (spare + 1) - missing
        result = (found["broken"], found["entries"], len(found["unfinished"]))
        need(result == (None, entries, missing), f"{statuses}: got {found}")
    return "refused with the reason, fleet and log unchanged; after room was made, the same command went on"


@contextmanager
def small_filesystem(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FULL_BYTES}", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
