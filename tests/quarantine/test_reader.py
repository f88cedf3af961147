"""The reader on each host keeps the last whole chain, and keeps work of its host away from hosts in quarantine."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rackwright.kinds.training_run.spec import TrainingSpec
from rackwright.quarantine import chain as chains
from rackwright.quarantine.hosts import quarantine
from rackwright.quarantine.onhost import reader, receiver
from tests.support.verdicts import FOREIGN_KEY, HOSTS, KEY, RECEIVER, began, chain, ended, link, sign

TWO = {"10.0.0.1:80": "gpu-01", "[fd00::2]:80": "gpu-02"}


class Rig:
    """The reader with its files in a directory; commands are noted and not run, except those of openssl."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.places = reader.Places(*(folder / name for name in reader.Places._fields))
        for place in self.places:
            place.mkdir()
        self.settings: dict[str, Any] = {
            "receiver": RECEIVER, "hosts": HOSTS, "limit": 1, "address": "127.0.0.1", "port": 9, "members": {},
            "cordons": False,
        }  # fmt: skip
        key = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.places.settings / "verdicts.pub").write_bytes(key)
        self.content: bytes | Exception = b""
        self.calls: list[tuple[tuple[str, ...], str]] = []
        self.active: set[str] = set()
        self.nodes: list[dict[str, Any]] = []
        monkeypatch.setattr(reader, "fetch", self._fetch)
        monkeypatch.setattr(reader, "run", self._run)
        monkeypatch.setattr(reader, "is_active", lambda name: name in self.active)

    def _fetch(self, settings: Any, directory: Path) -> bytes:
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def _run(self, *argv: str, input: str = "", seconds: float = 0) -> str:
        self.calls.append((argv, input))
        return json.dumps({"items": self.nodes}) if "get" in argv else ""

    def read(self, lines: Sequence[bytes] | Exception, *arguments: str) -> int:
        """Run the reader once on a chain of these *lines*, and return its status."""
        self.content = lines if isinstance(lines, Exception) else b"".join(lines)
        self.calls.clear()
        (self.places.settings / "settings.json").write_text(json.dumps(self.settings))
        return reader.main([*arguments], self.places)

    def add_run(self, name: str, *hosts: str, least: int | None = None, host: str = "") -> None:
        plan = {"host": host or hosts[0], "hosts": [{"name": each} for each in hosts], "processes": 1}
        (self.places.runs / name).mkdir()
        (self.places.runs / name / "run.json").write_text(json.dumps({**plan, "min_processes": least}))

    @property
    def hosts(self) -> list[str]:
        return (self.places.run / "hosts").read_text().split()

    @property
    def commands(self) -> list[str]:
        return [" ".join((Path(argv[0]).name, *argv[1:])) for argv, _ in self.calls]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_receiver_reader_and_operators_computer_agree_on_the_form() -> None:
    for name in ("FORMAT", "NAMESPACE", "NO_HASH", "CHAIN_BYTES"):
        assert getattr(reader, name) == getattr(chains, name) == getattr(receiver, name)
    assert reader.LINE_BYTES == chains.LINE_BYTES
    verdict = link(began("gpu-01"))[0]
    assert json.loads(verdict.content).keys() == reader.FIELDS
    assert reader.canonical(json.loads(verdict.content)) == verdict.content


def test_the_unit_of_a_run_is_that_of_its_launcher_host() -> None:
    here = SimpleNamespace(name="gpu-01")
    spec: Any = SimpleNamespace(name="digits", host=here.name, launcher_host=here)

    assert reader.unit("digits") == TrainingSpec.unit.fget(spec)  # type: ignore[attr-defined]


def test_of_too_many_hosts_those_with_the_earliest_verdicts_are_in_quarantine(rig: Rig) -> None:
    verdicts = [began("gpu-02"), began("none"), began("gpu-01"), ended("gpu-02"), began("gpu-02")]

    assert rig.read(chain(*verdicts)) == 0
    assert rig.hosts == [*quarantine(verdicts, HOSTS, 34).hosts] == ["gpu-01"]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([b"{}\n"], "line 1 has not the form"),
        ([b"[" * 5000 + b"\n"], "line 1 has not the form"),
        ([sign(link(began("gpu-01"))[0], FOREIGN_KEY)], "has not signed line 1"),
        ([sign(link(began("gpu-01"))[0], namespace="another")], "has not signed line 1"),
        ([chain(began("gpu-01"))[0].replace(b"gpu-01", b"gpu-02")], "has not signed line 1"),
        (chain(began("gpu-01")) * 2, "line 2 does not continue"),
        (chain(began("gpu-01"), began("gpu-02"))[1:], "line 1 does not continue"),
        ([chain(began("gpu-01"))[0].replace(b":", b": ", 1)], "line 1 has not the form"),
    ],
)  # fmt: skip
def test_a_chain_that_is_not_whole_changes_nothing(
    rig: Rig, lines: list[bytes], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rig.read(chain(began("gpu-02"))) == 0
    old = time.time() - 2 * reader.UNREAD_SECONDS
    os.utime(rig.places.state / "read", (old, old))

    assert rig.read(lines) == 1
    assert rig.hosts == ["gpu-02"] and problem in capsys.readouterr().err


def test_signatures_of_a_longer_chain_are_checked_from_its_new_lines(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    monkeypatch.setattr(reader, "verify", lambda lines, key: checked.append(len(lines)))
    lines = chain(began("gpu-01"), ended("gpu-01"), began("gpu-02"))

    for several in (lines[:2], lines[:2], lines, chain(began("gpu-02"))):
        rig.read(several)
    assert checked == [2, 0, 1, 1]


def test_a_rebuilt_monitoring_host_counts(rig: Rig) -> None:
    rig.read(chain(began("gpu-01"), ended("gpu-01"), began("gpu-02")))

    assert rig.read(chain(began("gpu-01"))) == 0 and rig.hosts == ["gpu-01"]


def test_the_last_verdicts_count_until_the_unit_fails_after_some_time(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.read(chain(began("gpu-01")))

    assert rig.read(OSError("no route")) == 0 and rig.hosts == ["gpu-01"]
    assert not capsys.readouterr().err
    for seconds in (reader.UNREAD_SECONDS + 1, -3600):
        then = time.time() - seconds
        os.utime(rig.places.state / "read", (then, then))
        assert rig.read(OSError("no route")) == 1 and rig.hosts == ["gpu-01"]
        assert f"the verdicts of {RECEIVER} are not read: no route" in capsys.readouterr().err
    assert rig.read(chain(began("gpu-01"))) == 0


def test_a_host_that_has_read_nothing_yet_has_the_time_from_its_first_try(rig: Rig) -> None:
    assert rig.read(OSError("no route")) == 0 and rig.hosts == []
    assert (rig.places.state / "read").exists()


def test_a_check_of_signatures_that_takes_too_long_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.read(chain(began("gpu-01")))

    def verify(lines: Any, key: Path) -> None:
        raise subprocess.TimeoutExpired("openssl", reader.SECONDS)

    monkeypatch.setattr(reader, "verify", verify)
    assert rig.read(chain(began("gpu-02"))) == 0 and rig.hosts == ["gpu-01"]


def test_another_argument_changes_nothing(rig: Rig) -> None:
    rig.read(chain(began("gpu-01")))

    with pytest.raises(SystemExit, match="usage: "):
        rig.read([], "ends")
    assert rig.hosts == ["gpu-01"]


def test_verdicts_of_another_monitoring_host_are_forgotten(rig: Rig) -> None:
    rig.read(chain(began("gpu-01")))
    rig.settings["receiver"] = "service-02"

    assert rig.read(OSError("no route")) == 0 and rig.hosts == []


def test_new_connections_to_members_in_quarantine_are_refused_by_both_families(rig: Rig) -> None:
    rig.settings |= {"members": {"digits": {**TWO, "10.0.0.9:80": ""}}, "limit": 2}

    rig.read(chain(began("gpu-01"), began("gpu-02")))
    [(argv, text)] = rig.calls
    assert argv == ("/usr/sbin/nft", "-f", "-")
    assert "ip daddr 10.0.0.1 tcp dport 80 ct state new reject with tcp reset" in text
    assert "ip6 daddr fd00::2 tcp dport 80 ct state new reject with tcp reset" in text
    rig.read(chain(began("gpu-01"), ended("gpu-01")))
    assert "reject" not in rig.calls[0][1] and "delete table inet rackwright_quarantine" in rig.calls[0][1]


def test_a_service_whose_members_are_all_in_quarantine_keeps_them(rig: Rig) -> None:
    rig.settings |= {"members": {"digits": TWO, "more": {"10.0.0.1:81": "gpu-01", "10.0.0.3:81": ""}}, "limit": 2}

    rig.read(chain(began("gpu-01"), began("gpu-02")))
    assert "dport 80" not in rig.calls[0][1] and "10.0.0.1 tcp dport 81" in rig.calls[0][1]


@pytest.mark.skipif(os.geteuid() != 0, reason="rules of a network namespace need root")
def test_the_kernel_takes_the_rules_again_and_again(rig: Rig) -> None:
    rig.settings |= {"members": {"digits": {**TWO, "10.0.0.9:80": ""}}, "limit": 2}
    texts = []
    for verdicts in ([], [began("gpu-01"), began("gpu-02")], [began("gpu-01")], []):
        rig.read(chain(*verdicts))
        texts.append(rig.calls[0][1])
    script = "".join(f"nft -f - <<'END'\n{text}END\nnft list ruleset | grep -c reject || true\n" for text in texts)

    done = subprocess.run(["unshare", "--net", "sh", "-ec", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "2", "1", "0"]


def node(name: str, away: bool = False, own: bool = False) -> dict[str, Any]:
    annotations = {reader.ANNOTATION: "true"} if own else None
    return {"metadata": {"name": name, "annotations": annotations}, "spec": {"unschedulable": True} if away else {}}


def test_nodes_are_cordoned_and_only_own_cordons_end(rig: Rig) -> None:
    rig.settings |= {"cordons": True, "limit": 2}
    rig.nodes = [node("gpu-01"), node("gpu-02", away=True), node(RECEIVER, away=True, own=True)]

    rig.read(chain(began("gpu-01"), began("gpu-02")))
    patches = {argv[-3]: json.loads(argv[-1].removeprefix("--patch=")) for argv, _ in rig.calls if "patch" in argv}
    assert patches["gpu-01"]["spec"] == {"unschedulable": True}
    assert patches["gpu-01"]["metadata"]["annotations"] == {reader.ANNOTATION: "true"}
    assert patches[RECEIVER]["spec"] == {"unschedulable": None}
    assert "gpu-02" not in patches, "a cordon of others stays as it is"


def test_a_run_stops_and_starts_again_after_the_end(rig: Rig) -> None:
    rig.add_run("digits", RECEIVER, "gpu-01")
    rig.add_run("other", RECEIVER, "gpu-02")
    rig.add_run("theirs", "gpu-01", host="gpu-02")
    rig.active = {"digits", "other", "theirs"}

    rig.read(chain(began("gpu-01")))
    assert rig.commands == ["systemctl stop --no-block training-digits.service"]
    rig.active.remove("digits")
    rig.read(chain(began("gpu-01")))
    assert rig.commands == []
    rig.read(chain(began("gpu-01"), ended("gpu-01")))
    assert rig.commands == ["systemctl start --no-block training-digits.service"]
    rig.read(chain(began("gpu-01"), ended("gpu-01")))
    assert rig.commands == []


def test_a_run_that_was_stopped_before_is_not_started(rig: Rig) -> None:
    rig.add_run("digits", RECEIVER, "gpu-01")

    rig.read(chain(began("gpu-01")))
    rig.read(chain(began("gpu-01"), ended("gpu-01")))
    assert rig.commands == []


def test_a_held_run_that_a_boot_started_stops_again(rig: Rig) -> None:
    rig.add_run("digits", RECEIVER, "gpu-01")
    rig.active = {"digits"}

    for _ in range(2):
        rig.read(chain(began("gpu-01")))
        assert rig.commands == ["systemctl stop --no-block training-digits.service"]


@pytest.mark.parametrize(
    ("state", "works"), [("active", True), ("activating", True), ("inactive", False), ("failed", False)]
)
def test_a_run_that_waits_for_its_next_start_works(state: str, works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess((), 0, f"{state}\n".encode())
    monkeypatch.setattr(reader.subprocess, "run", lambda argv, **more: done)

    assert reader.is_active("digits") == works


def test_a_held_run_that_was_removed_is_forgotten(rig: Rig) -> None:
    rig.add_run("digits", RECEIVER, "gpu-01")
    rig.active = {"digits"}
    rig.read(chain(began("gpu-01")))
    (rig.places.runs / "digits/run.json").unlink()

    rig.read([])
    assert rig.commands == [] and json.loads((rig.places.state / "held.json").read_text()) == []


@pytest.mark.parametrize(
    ("inside", "least", "waits"),
    [("gpu-01", 2, False), ("gpu-01", 3, True), (RECEIVER, 1, True), ("gpu-01", None, True)],
)
def test_an_elastic_run_goes_on_with_enough_processes_and_its_launcher(
    rig: Rig, inside: str, least: int | None, waits: bool
) -> None:
    rig.add_run("digits", RECEIVER, "gpu-01", "gpu-02", least=least)
    rig.active = {"digits"}

    rig.read(chain(began(inside)))
    assert bool(rig.commands) == waits


def test_the_end_of_the_role_ends_what_it_changed_but_not_a_shutdown(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add_run("digits", RECEIVER, "gpu-01")
    rig.active = {"digits"}
    rig.settings["members"] = {"digits": TWO}
    rig.read(chain(began("gpu-01")))

    monkeypatch.setattr(reader, "is_shutting_down", lambda: True)
    assert rig.read([], "end") == 0 and rig.commands == [] and rig.hosts == ["gpu-01"]
    monkeypatch.setattr(reader, "is_shutting_down", lambda: False)
    assert rig.read([], "end") == 0 and rig.hosts == []
    assert rig.commands == ["systemctl start --no-block training-digits.service", "nft -f -"]


def test_a_part_that_fails_is_reported_and_the_others_are_done(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.settings |= {"members": {"digits": TWO}, "cordons": True}

    def run(*argv: str, input: str = "") -> str:
        if "nft" in argv[0]:
            raise subprocess.CalledProcessError(1, "nft", stderr=b"no such table")
        return rig._run(*argv, input=input)

    monkeypatch.setattr(reader, "run", run)
    assert rig.read(chain(began("gpu-01"))) == 1
    assert "load balancer:" in (said := capsys.readouterr().err) and "no such table" in said
    assert [each for each in rig.commands if "get nodes" in each]
