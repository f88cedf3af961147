"""`rackwright drive erase` and `drive certificate`, as typed, against a simulated host whose steps are the test's."""

import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.erase.run import JOB, REPORT
from rackwright.hosts.onhost.references import REFERENCE
from tests.cli.conftest import TypedProject
from tests.support.diagnostics import sentences
from tests.support.erasure import REPORT as ERASED
from tests.support.erasure import new_key
from tests.support.simulated import SimulatedRack

DRIVE = {
    "name": "sde",
    "path": "/dev/sde",
    "model": "M",
    "bus": "sas",
    "size_bytes": 512_000_000,
    "holders": [],
    "mountpoints": [],
    "signatures": [{"type": "ext4", "uuid": "3f2a", "label": None}],
    "witnesses": ["9c1e"],
    "sample": ["data 77aa"],
    "parts": [],
    "held": [],
    "writes": "8 sectors written since 5f3c1a2b",
}
BLANK = {**DRIVE, "name": "sdf", "path": "/dev/sdf", "serial": "E-2", "signatures": [], "witnesses": [], "sample": []}
RAW: dict[str, Any] = {
    "taken_at": 1.0,
    "identity": {"serial": "S-ALPHA"},
    "drives": [{**DRIVE, "serial": "E-1"}, BLANK],
}
ABLE = {
    "can_format": False,
    "can_crypto_erase": False,
    "namespaces_erased": 1,
    "discard_max_bytes": 4096,
    "in_use": False,
}
CONSENTS = ("--consent", "E-1=ext4 3f2a 9c1e, data 77aa", "--consent", "E-2=blank")


HOST = {
    "identity": {"serial": "S-ALPHA"},
    "os": "debian-12",
    "drives": [{"serial": "BOOT", "boot": True}, {"serial": "E-2", "bus": "sas", "size": "512MB"}],
}


class Typed(TypedProject):
    """Its host erases drives, and its operator has a key."""

    def __init__(self, rack: SimulatedRack, directory: Path) -> None:
        super().__init__(rack, directory, HOST)
        self.reports: dict[str, Any] = {serial: copy.deepcopy(ERASED) for serial in ("E-1", "E-2")}
        self.jobs: list[dict[str, Any]] = []
        (directory / "signers").write_text(f"ada@example.org {new_key(directory / 'ada')}\n")
        self.certificate = directory / "erased.json"
        self.alpha.set_facts(RAW)
        self.alpha.set_abilities({"E-1": ABLE, "E-2": ABLE})
        self.alpha.on_step = self._step

    def _step(self, step: dict[str, Any]) -> None:
        if step["kind"] == "put":
            self.jobs.append(json.loads(step["content"]))
        elif step["kind"] == "run":
            job = self.jobs[-1]
            content = {"id": job["id"], "drives": {serial: self.reports[serial] for serial in job["serials"]}}
            self.alpha.set_texts({REPORT: json.dumps(content)})

    def erase(self, *more: str, method: str = "overwrite") -> subprocess.CompletedProcess[str]:
        signed = ("--method", method, "--sign-with", "ada", "--certificate", "erased.json")
        return self("drive", "erase", "lab", "alpha", "E-1", "E-2", *signed, *more)

    def prove(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self("drive", "certificate", "erased.json", "--allowed-signers", "signers", *more)


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Typed]:
    with SimulatedRack({"alpha": RAW}) as rack:
        yield Typed(rack, tmp_path)


def test_without_consent_it_is_shown_what_drives_hold_and_nothing_is_done(typed):
    done = typed.erase()

    assert done.returncode == 2, done.stderr
    assert done.stdout == (
        "E-1 (M, sas, 512MB): ext4 3f2a 9c1e, data 77aa\n"
        "E-2 (M, sas, 512MB): blank as far as it was read: no signature, and zeros in all samples\n"
        "To erase all of it, add:\n"
        "  --consent 'E-1=ext4 3f2a 9c1e, data 77aa' \\\n"
        "  --consent E-2=blank\n"
    )
    assert done.stderr == "nothing was erased: no --consent was given\n"
    assert not typed.alpha.steps

    report = json.loads(typed.erase("--json").stdout)
    assert (report["erased"], report["certificate"]) == ([], None)
    assert report["contents"] == {"E-1": "ext4 3f2a 9c1e, data 77aa", "E-2": "blank"}


def test_consented_content_is_erased_and_certified(typed):
    done = typed.erase(*CONSENTS)

    assert done.returncode == 0, done.stderr
    put, run = typed.alpha.steps
    assert (put["path"], put["mode"]) == (JOB, 0o600)
    assert not REFERENCE.search(put["content"]), "the host would put something in its place"
    assert JOB in run["argv"][-1]
    job = typed.jobs[0]
    assert (job["serials"], job["method"], job["do"]) == (["E-1", "E-2"], "overwrite", "erase")
    assert job["contents"] == {"E-1": "ext4 3f2a 9c1e, data 77aa", "E-2": ""}

    proved = typed.prove("--json")
    assert proved.returncode == 0, proved.stderr
    report = json.loads(proved.stdout)
    assert report["signer"] == "ada@example.org"
    first = report["certificate"]["drives"][0]
    assert (first["serial"], first["held"], first["nist"]["term"]) == ("E-1", "ext4 3f2a 9c1e, data 77aa", "clear")
    assert report["certificate"]["identity"] == {"serial": "S-ALPHA"}
    assert "E-1 (M, sas, 512000000 bytes): overwrite, NIST clear" in typed.prove().stdout


def test_a_changed_certificate_is_not_proved(typed):
    typed.erase(*CONSENTS)
    typed.certificate.write_text(typed.certificate.read_text().replace("512000000", "512000001", 1))

    done = typed.prove()

    assert (done.returncode, done.stdout) == (1, "")
    assert "an unchanged file that was signed for this purpose" in done.stderr
    assert "Traceback" not in done.stderr


def left(typed: Typed, serial: str) -> None:
    typed.reports[serial]["verification"].update(blocks_with_content=7, first_content_at=8192)


def test_where_something_was_left_on_every_drive_there_is_no_certificate(typed):
    left(typed, "E-1")
    typed.reports["E-2"] = {"failed": "the drive cannot be written at byte 0: Input/output error"}

    done = typed.erase(*CONSENTS, method="discard")

    assert done.returncode == 4
    assert (
        "alpha: drive E-1: after discard 7 of 125000 blocks of 4096 bytes have content, the first at byte 8192;"
        " a drive that reads as zeros; no certificate contains this drive" in done.stderr
    )
    assert "alpha: drive E-2: the drive cannot be written at byte 0: Input/output error" in done.stderr
    assert "no certificate was written" in done.stderr
    assert not [*typed.directory.glob("erased*")]


def test_a_drive_that_failed_is_in_no_certificate_and_the_others_are(typed):
    left(typed, "E-1")

    done = typed.erase(*CONSENTS, "--json")

    report = json.loads(done.stdout)
    assert done.returncode == 4
    assert (report["erased"], report["certificate"]) == (["E-2"], "erased.json")
    assert [error["where"] for error in report["errors"]] == ["alpha: drive E-1"]
    proved = json.loads(typed.prove("--json").stdout)["certificate"]
    assert [drive["serial"] for drive in proved["drives"]] == ["E-2"]


def test_a_drive_that_was_not_read_whole_is_not_certified(typed):
    typed.reports["E-1"]["verification"]["bytes_read"] -= 4096

    done = typed.erase(*CONSENTS)

    assert done.returncode == 4
    assert "511995904 of 512000000 bytes were read back" in done.stderr


def test_another_content_than_the_consented_one_is_refused(typed):
    typed.alpha.set_facts({**RAW, "drives": [{**DRIVE, "serial": "E-1", "sample": ["data 88"]}, BLANK]})

    done = typed.erase(*CONSENTS)

    assert done.returncode == 2
    assert (
        "the drive has 'ext4 3f2a 9c1e, data 88' on it, and the consent is for 'ext4 3f2a 9c1e, data 77aa'"
        in done.stderr
    )
    assert "add --consent 'E-1=ext4 3f2a 9c1e, data 88'" in done.stderr
    assert not typed.alpha.steps
    assert not typed.certificate.exists()


def test_a_report_of_another_run_is_not_believed(typed):
    typed.alpha.set_texts({REPORT: json.dumps({"id": "old", "drives": typed.reports})})
    typed.alpha.on_step = lambda step: None

    done = typed.erase(*CONSENTS)

    assert done.returncode == 4
    assert "the eraser left no report" in done.stderr
    assert not typed.certificate.exists()


def test_all_that_is_wrong_with_what_was_typed_is_reported_at_once(typed):
    typed.certificate.write_text("mine")
    argv = ("drive", "erase", "lab", "alpah", "E-1", "E-1", "--method", "formt", "--sign-with", "no-key")

    done = typed(*argv, "--certificate", "erased.json", "--consent", "E-9=x")

    assert done.returncode == 2
    for message in (
        "stack lab: the stack has no host alpah; one of alpha. Write alpha.",
        "--method: no such method, 'formt'; one of format, crypto-erase, discard, overwrite. Write format.",
        "drive E-1: the drive is named twice",
        "--sign-with: no-key is not a file",
        "--certificate: erased.json exists already; a new file; no certificate is overwritten",
        "--consent: drive E-9 is not erased by this command",
        "6 errors; nothing was done.",
    ):
        assert message in sentences(done.stderr)
    assert typed.certificate.read_text() == "mine"
    assert "Traceback" not in done.stderr


def test_a_key_that_cannot_sign_is_found_before_anything_is_lost(typed):
    (typed.directory / "ada").write_text("no key\n")

    done = typed.erase(*CONSENTS)

    assert done.returncode == 2
    assert "key ada: ssh-keygen cannot sign with it" in done.stderr
    assert not typed.alpha.steps


def test_a_drive_that_is_used_is_refused_once(typed):
    used = {**DRIVE, "serial": "E-1", "holders": ["md127"], "sample": {"unknown": "in use by md127"}}
    typed.alpha.set_facts({**RAW, "drives": [used, BLANK]})

    done = typed.erase(*CONSENTS)

    assert done.returncode == 2
    assert "alpha: drive E-1: the drive is part of md127" in done.stderr
    assert "1 error; nothing was done." in done.stderr
