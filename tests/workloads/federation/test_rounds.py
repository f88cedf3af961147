"""A federation by files: each institution runs its own command, and reads files that others wrote."""

import errno
import json
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.diagnostics import sentences
from tests.support.federations import SITES, write_signed
from workloads.errors import UserError
from workloads.federation import exchange, signatures
from workloads.federation.__main__ import main
from workloads.federation.compare import contradictions, gaps, missing_members
from workloads.federation.local_training import initial_model
from workloads.federation.round_folders import REPLY, REQUEST, SIGNATURE, STATEMENT, read_status
from workloads.federation.shared_folders import SharedPath
from workloads.federation.transcript import read_verified
from workloads.training.load_config import load_config

SMALL = ("steps=4", "model.channels=4", "global_batch=32", "report_every_steps=1000")
CHANGES = [argument for change in SMALL for argument in ("--set", change)]


class Institutions:
    """The directory of a coordinator, and the files of the sites."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self.rounds, self._capsys = directory, directory / "rounds", capsys
        self.state = directory / "terms.state"
        _, self.signers = write_signed(directory, [])
        self.declare()

    def declare(self) -> None:
        terms = ("--federation", "wards", "--members", *SITES, "--rounds", "2")
        (self.directory / "terms.json").write_text(self.run("terms", "digits", *CHANGES, *terms))
        for number, site in enumerate(SITES):
            only = f"data.only=[{number},{number + 1},{number + 5}]"
            options = ("--terms", str(self.directory / "terms.json"), "--set", only)
            (self.directory / f"{site}.json").write_text(self.run("site", site, "digits", *CHANGES, *options))

    def run(self, *arguments: str, status: int = 0) -> str:
        assert main([*arguments]) == status
        printed = self._capsys.readouterr()
        return sentences(printed.err) if status else printed.out

    def advance(self, *options: str, status: int = 0) -> str:
        terms, out = str(self.directory / "terms.json"), ("--signers", str(self.signers), "--out", str(self.rounds))
        return self.run("advance", terms, "digits", *CHANGES, *out, *options, status=status)

    def answer(self, site: str, round: int, status: int = 0) -> str:
        place, key = self.rounds / f"round-{round:04d}", self.directory / "keys" / site
        options = ("--key", str(key), "--out", str(self.directory / site))
        return self.run("answer", str(self.directory / f"{site}.json"), str(place), *options, status=status)


@pytest.fixture
def institutions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Institutions:
    (tmp_path / "keys").mkdir()
    made = Institutions(tmp_path, capsys)
    for site in SITES:
        key = tmp_path / "keys" / site
        subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
        with made.signers.open("a") as file:
            file.write(f"{site} {key.with_name(f'{site}.pub').read_text()}")
    return made


def test_institutions_train_by_files_and_their_transcripts_agree(institutions: Institutions) -> None:
    assert institutions.advance() == "round 1 waits for a, b, c, d\n"
    for site in SITES[:3]:
        assert "round 1 is answered" in institutions.answer(site, 1)
    assert institutions.advance() == "round 1 waits for d\n"
    institutions.answer("d", 1)
    assert "round 1: 4 updates" in institutions.advance()
    for site in SITES[:3]:
        institutions.answer(site, 2)
    waiting = read_status(institutions.rounds)
    assert (waiting.round, waiting.done, [*waiting.replies], [*waiting.statements]) == (2, False, ["a", "b", "c"], [1])
    assert "d excluded: it is not connected\nround 2 was the last one" in institutions.advance("--close")
    for site in SITES:
        assert "round 2 was the last one" in institutions.answer(site, 2)
    assert institutions.advance() == "round 2 was the last one\n"
    closed = read_status(institutions.rounds)
    assert closed.done and closed.statements[2].excluded == {"d": "it is not connected"}

    files = [institutions.directory / site / "transcript.json" for site in SITES]
    transcripts = [read_verified(path, institutions.signers) for path in files]
    assert contradictions(transcripts) == gaps(transcripts) == missing_members(transcripts) == []
    assert [len(each.entries) for each in transcripts] == [2, 2, 2, 1]
    first, last = institutions.rounds / "round-0001" / exchange.MODEL, institutions.rounds / exchange.MODEL
    assert first.stat().st_size == last.stat().st_size and first.read_bytes() != last.read_bytes()


def test_files_of_others_are_refused_or_excluded(institutions: Institutions) -> None:
    institutions.advance()
    place = institutions.rounds / "round-0001"
    model = (place / exchange.MODEL).read_bytes()
    for content, problem in ((model[:-4], f"the file has {len(model) - 4} bytes"), (model + b"\0", "longer than")):
        (place / exchange.MODEL).write_bytes(content)
        assert problem in institutions.answer("a", 1, status=2)
    (place / exchange.MODEL).write_bytes(model[:-4] + b"\0\0\x80\x7f")
    assert "it has numbers that are not finite" in institutions.answer("a", 1, status=2)
    (place / exchange.MODEL).write_bytes(model)
    for site in SITES:
        institutions.answer(site, 1)

    own = place / "replies" / "b"
    (own / exchange.UPDATE).write_bytes((own / exchange.UPDATE).read_bytes()[:-4] + b"\0\0\0\0")
    printed = institutions.advance()
    assert "round 1: 3 updates" in printed
    assert "b excluded: its update has another digest than its answer" in printed


def test_a_site_that_closes_its_folder_ends_no_round(
    institutions: Institutions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Before, `advance --close` and the status of the rounds ended with a traceback for all sites.
    """
    institutions.advance()
    for site in SITES:
        institutions.answer(site, 1)
    whole = SharedPath._parent

    def closed(self: SharedPath, make: bool = False) -> AbstractContextManager[int]:
        if self.names[1:3] == ("replies", "b"):
            raise PermissionError(errno.EACCES, "Permission denied", "b")
        return whole(self, make)

    monkeypatch.setattr(SharedPath, "_parent", closed)
    printed = institutions.advance()
    assert "b has not answered: its folder cannot be read: Permission denied" in printed
    assert [*read_status(institutions.rounds).replies] == ["a", "c", "d"]
    assert "round 1: 3 updates" in institutions.advance("--close")


def test_an_answer_that_its_site_has_not_signed_counts_as_missing(institutions: Institutions) -> None:
    institutions.advance()
    replies = institutions.rounds / "round-0001" / "replies"
    for site in SITES:
        institutions.answer(site, 1)
    good = {name: (replies / "b" / name).read_bytes() for name in (REPLY, SIGNATURE, exchange.UPDATE)}
    other = {name: (replies / "a" / name).read_bytes() for name in good}
    changed = good[REPLY].replace(b'"accuracy": 0', b'"accuracy": 1')
    assert changed != good[REPLY]
    hostile = {
        "the signature is not that of b": [{REPLY: changed}, {SIGNATURE: other[SIGNATURE]}, other, {SIGNATURE: b""}],
        "longer than": [{SIGNATURE: b"x" * (64 << 10)}, {REPLY: b" " * (64 << 10)}],
    }
    tried = 0
    for reason, several in hostile.items():
        for files in several:
            for name, content in {**good, **files}.items():
                (replies / "b" / name).write_bytes(content)
            printed = institutions.advance()
            assert "b has not answered" in printed and reason in printed
            assert printed.endswith("round 1 waits for b\n")
            tried += 1
    assert tried == 6
    for name, content in good.items():
        (replies / "b" / name).write_bytes(content)
    assert "round 1: 4 updates" in institutions.advance()

    # an answer of an earlier round, with its own signature
    shutil.copytree(replies / "b", institutions.rounds / "round-0002" / "replies" / "b")
    printed = institutions.advance()
    assert "b has not answered: it answers another request" in printed
    assert printed.endswith("round 2 waits for a, b, c, d\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [("accuracy", 1.7e308), ("accuracy", -0.1), ("accuracy", 1.01), ("loss", -5.0), ("loss", 1.7e308), ("loss", "0")],
)
def test_a_score_that_no_rows_give_counts_as_no_answer(institutions: Institutions, name: str, value: object) -> None:
    institutions.advance()
    institutions.answer("a", 1)
    own = institutions.rounds / "round-0001" / "replies" / "a"
    content = json.dumps({**json.loads((own / REPLY).read_text()), name: value}).encode()
    (own / REPLY).write_bytes(content)
    (own / SIGNATURE).write_bytes(signatures.sign(content, institutions.directory / "keys" / "a", exchange.NAMESPACE))
    assert f"a has not answered: {name} has another form" in institutions.advance()
    with pytest.raises(UserError, match=f"{name} has another form"):
        read_status(institutions.rounds)


def change_request(place: Path, **values: Any) -> None:
    request = json.loads((place / REQUEST).read_text())
    terms = {**request["terms"], **values.pop("terms", {})}
    (place / REQUEST).write_text(json.dumps({**request, "terms": terms, **values}))


def change_model(place: Path) -> None:
    size = (place / exchange.MODEL).stat().st_size
    (place / exchange.MODEL).write_bytes(struct.pack("<f", 7.0) * (size // 4))


CHANGES_BY_OTHERS: dict[str, Callable[[Path], object]] = {
    "another model": change_model,
    "a longer model": lambda place: (place / exchange.MODEL).write_bytes(b"x" * (1 << 20)),
    "no model": lambda place: (place / exchange.MODEL).unlink(),
    "other terms": lambda place: change_request(place, terms={"clip_norm": 1e6, "rounds": 1}),
    "another round": lambda place: change_request(place, round=2),
    "another digest": lambda place: change_request(place, model="0" * 64),
    "no request": lambda place: (place / REQUEST).unlink(),
    "a request that is none": lambda place: (place / REQUEST).write_text("{}"),
    "a link": lambda place: (
        (place / REQUEST).rename(place / "other"), (place / REQUEST).symlink_to(place / "other")),
    "a statement": lambda place: (place / STATEMENT).write_text("{}"),
    "a later round": lambda place: shutil.copytree(place, place.with_name("round-0002")),
    "the last round": lambda place: shutil.copytree(place, place.with_name("round-0999")),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES_BY_OTHERS.values(), ids=CHANGES_BY_OTHERS)
def test_no_file_in_a_shared_folder_takes_the_place_of_the_coordinators(
    institutions: Institutions, change: Callable[[Path], object]
) -> None:
    institutions.advance()
    place = institutions.rounds / "round-0001"
    for site in SITES:
        institutions.answer(site, 1)
    own = {name: (place / name).read_bytes() for name in (REQUEST, exchange.MODEL)}
    change(place)
    printed = institutions.advance()
    assert "round 1: 4 updates" in printed
    assert printed.endswith("round 2 waits for a, b, c, d\n")
    assert {name: (place / name).read_bytes() for name in own} == own
    assert not (place / REQUEST).is_symlink() and not (place / STATEMENT).exists()
    request, _ = exchange.read_request(
        SharedPath(institutions.rounds) / "round-0002", initial_model(load_config("digits", SMALL))
    )
    assert (request.round, request.terms.clip_norm, request.terms.rounds) == (2, 5.0, 2)
    for site in SITES:  # the model of the second round is that of the good updates
        assert "round 2 is answered" in institutions.answer(site, 2)
    status = read_status(institutions.rounds, institutions.state)
    assert (status.round, status.done, [*status.replies], [*status.statements]) == (2, False, [*SITES], [1])


def test_changed_files_are_named(institutions: Institutions) -> None:
    institutions.advance()
    place = institutions.rounds / "round-0001"
    change_model(place)
    (place / STATEMENT).write_text("{}")
    first, second, last = institutions.advance().splitlines()
    assert first == f"{place / STATEMENT} was not as this coordinator has written it, and is now"
    assert second == f"{place / exchange.MODEL} was not as this coordinator has written it, and is now"
    assert last == institutions.advance().strip() == "round 1 waits for a, b, c, d"


def test_a_coordinator_goes_on_by_its_own_state_alone(institutions: Institutions) -> None:
    institutions.advance()
    assert "is within" in institutions.advance("--state", str(institutions.rounds / "state"), status=2)
    assert "has no state of them" in institutions.advance("--state", str(institutions.directory / "new"), status=2)
    assert stat.S_IMODE(institutions.state.stat().st_mode) == 0o700
    shutil.rmtree(institutions.rounds)
    assert institutions.advance() == "round 1 waits for a, b, c, d\n"
    assert (institutions.rounds / "round-0001" / REQUEST).exists()
    [model] = institutions.state.glob("*.f32")
    model.write_bytes(bytes(model.stat().st_size))
    assert "the model is damaged" in institutions.advance(status=2)
    terms = json.loads((institutions.directory / "terms.json").read_text())
    (institutions.directory / "terms.json").write_text(json.dumps({**terms, "clip_norm": 6.0}))
    assert "its training has other terms" in institutions.advance(status=2)


def test_other_accounts_of_a_computer_read_no_update(institutions: Institutions) -> None:
    before = os.umask(0o022)
    try:
        institutions.advance()
        institutions.answer("a", 1)
        place = institutions.rounds / "round-0001"
        for path in (institutions.rounds, *institutions.rounds.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        prepared = place / "replies" / "b"
        prepared.mkdir()
        prepared.chmod(0o750)  # for the group that carries answers
        institutions.answer("b", 1)
        assert {stat.S_IMODE(path.stat().st_mode) for path in prepared.iterdir()} == {0o640}
    finally:
        os.umask(before)


def test_each_member_has_a_key_before_the_first_round(institutions: Institutions) -> None:
    lines = institutions.signers.read_text().splitlines(keepends=True)
    institutions.signers.write_text("".join(lines[:2]))
    assert "signers: no key of c, d" in institutions.advance(status=2)
    institutions.signers.unlink()
    assert "signers: the file cannot be read" in institutions.advance(status=2)
    assert not institutions.rounds.exists()


def test_a_coordinator_that_asks_for_other_terms_gets_no_answer(institutions: Institutions) -> None:
    institutions.advance()
    path = institutions.rounds / "round-0001" / REQUEST
    request = json.loads(path.read_text())
    path.write_text(json.dumps({**request, "terms": {**request["terms"], "clip_norm": 1e6}}))

    assert "a: terms.clip_norm: the coordinator asks for 1000000.0; 5.0" in institutions.answer("a", 1, status=2)
    assert not (institutions.rounds / "round-0001" / "replies").exists()
    path.write_text(json.dumps({**request, "code": "import os"}))
    assert "code has another form" in institutions.answer("a", 1, status=2)


def test_no_link_in_the_folder_of_a_round_is_followed(institutions: Institutions) -> None:
    institutions.advance()
    place, victim = institutions.rounds / "round-0001", institutions.directory / "victim"
    victim.mkdir()
    (victim / REPLY).write_text("precious")
    (place / "replies").mkdir()
    (place / "replies" / "a").symlink_to(victim)
    assert "replies/a/update.f32: the file cannot be written" in institutions.answer("a", 1, status=2)
    (place / "replies" / "a").unlink()
    (place / "replies").rmdir()
    (place / "replies").symlink_to(victim)
    assert "the file cannot be written" in institutions.answer("a", 1, status=2)
    assert [(path.name, path.read_text()) for path in victim.iterdir()] == [(REPLY, "precious")]
    (place / "replies").unlink()

    (place / REQUEST).rename(victim / REQUEST)
    (place / REQUEST).symlink_to(victim / REQUEST)
    assert "request.json: the file cannot be read" in institutions.answer("b", 1, status=2)
    place.rename(institutions.directory / "other")
    place.symlink_to(institutions.directory / "other")
    assert "the file cannot be read" in institutions.answer("c", 1, status=2)
