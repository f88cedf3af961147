"""`rackwright federation verify`: transcripts of sites, their signatures, and what they contradict."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from tests.support.federations import SITES, digest, statement, transcript, write_signed
from workloads.errors import UserError
from workloads.federation import round_folders
from workloads.federation.messages import RoundReply
from workloads.federation.transcript import NAMESPACE, Transcript

Change = Callable[[Transcript], Transcript]


def verify(tmp_path: Path, several: Sequence[Transcript], status: int) -> dict[str, Any]:
    paths, signers = write_signed(tmp_path, several)
    arguments = ["federation", "verify", *map(str, paths), "--signers", str(signers), "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == status, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def change_request(round: int, **changes: Any) -> Change:
    def change(each: Transcript) -> Transcript:
        entries = [
            entry.model_copy(update={"request": entry.request.model_copy(update=changes)})
            if entry.request.round == round
            else entry
            for entry in each.entries
        ]
        return each.model_copy(update={"entries": tuple(entries)})

    return change


def test_transcripts_of_one_training_agree(tmp_path: Path) -> None:
    document = verify(tmp_path, [transcript(site) for site in SITES], 0)

    assert (document["sites"], document["missing"], document["rounds"]) == ([*SITES], [], 3)
    assert "saw the update of each site" in document["learnt"][0]


def test_a_member_without_a_transcript_is_named(tmp_path: Path) -> None:
    assert verify(tmp_path, [transcript(site) for site in SITES[:3]], 3)["missing"] == ["d"]


OTHER = statement(1).model_copy(update={"updates": {**statement(1).updates, "a": digest("other")}})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (change_request(2, model=digest("other")), "the model to start from differ"),
        (change_request(3, terms=transcript("b", clip_norm=9.0).entries[0].request.terms), "members, code, recipe"),
        (change_request(2, statement=OTHER), "the received updates differ"),
        (change_request(2, statement=statement(1, {"a": "it is late"})), "the excluded sites differ"),
        (lambda each: each.model_copy(update={"conclusion": OTHER.model_copy(update={"round": 3})}), "lists another"),
    ],
)
def test_a_coordinator_that_is_not_the_same_to_all_sites_is_found(
    change: Change, expected: str, tmp_path: Path
) -> None:
    document = verify(tmp_path, [change(transcript("b")), *(transcript(site) for site in ("a", "c", "d"))], 1)

    assert any(expected in each["problem"] and each["sites"] == ["b"] for each in document["contradictions"])


def test_a_coordinator_that_lists_another_update_for_all_sites_is_found_by_its_site(tmp_path: Path) -> None:
    several = [change_request(2, statement=OTHER)(transcript(site)) for site in SITES]

    [found] = verify(tmp_path, several, 1)["contradictions"]

    assert (found["round"], found["sites"]) == (1, ["a"])


def test_a_changed_field_has_no_valid_signature(tmp_path: Path) -> None:
    paths, signers = write_signed(tmp_path, [transcript("a")])
    check = ("ssh-keygen", "-Y", "verify", "-f", signers, "-I", "a", "-n", NAMESPACE, "-s", f"{paths[0]}.sig")
    subprocess.run(check, input=paths[0].read_bytes(), check=True)
    paths[0].write_text(paths[0].read_text().replace('"clip_norm": 2.0', '"clip_norm": 3.0'))

    with pytest.raises(UserError, match="the signature is not that of a"):
        CliRunner().invoke(
            app, ["federation", "verify", str(paths[0]), "--signers", str(signers)], catch_exceptions=False
        )


def test_another_site_cannot_sign(tmp_path: Path) -> None:
    paths, signers = write_signed(tmp_path, [transcript("a"), transcript("b")])
    paths[0].with_name("transcript.json.sig").write_bytes(paths[1].with_name("transcript.json.sig").read_bytes())
    paths[0].write_bytes(paths[1].read_bytes().replace(b'"site": "b"', b'"site": "a"'))

    with pytest.raises(UserError, match="the signature is not that of a"):
        CliRunner().invoke(
            app, ["federation", "verify", str(paths[0]), "--signers", str(signers)], catch_exceptions=False
        )


def test_the_status_has_the_round_the_answers_and_the_excluded_sites(tmp_path: Path) -> None:
    for entry in transcript("a", 2).entries:
        request = entry.request
        if request.round == 2:
            request = request.model_copy(update={"statement": statement(1, {"c": "it is late"})})
        place = round_folders.folder(tmp_path, request.round)
        (place / round_folders.REPLIES / "b").mkdir(parents=True)
        (place / round_folders.REQUEST).write_text(request.model_dump_json())
    reply = RoundReply(site="b", round=2, update=digest("b2"), loss=0.5, accuracy=0.75)
    (place / round_folders.REPLIES / "b" / round_folders.REPLY).write_text(reply.model_dump_json())

    done = CliRunner().invoke(app, ["federation", "status", str(tmp_path), "--json"], catch_exceptions=False)
    shown = CliRunner().invoke(app, ["federation", "status", str(tmp_path)], catch_exceptions=False).stdout
    document = json.loads(done.stdout)
    sites = {each["site"]: (each["accuracy"], each["excluded"]) for each in document["sites"]}

    assert (document["round"], document["rounds"], document["done"]) == (2, 3, False)
    assert (sites["b"], sites["c"]) == ((0.75, []), (None, [{"round": 1, "reason": "it is late"}]))
    assert "wards: round 2 of 3, open" in shown and "    round 1: it is late" in shown
    with pytest.raises(UserError, match="the directory has no round"):
        CliRunner().invoke(app, ["federation", "status", str(tmp_path / "x")], catch_exceptions=False)


def test_two_transcripts_of_one_site_are_refused(tmp_path: Path) -> None:
    paths, signers = write_signed(tmp_path, [transcript("a"), transcript("a", 2)])

    with pytest.raises(UserError, match="it is a transcript of a, and so is"):
        CliRunner().invoke(
            app, ["federation", "verify", *map(str, paths), "--signers", str(signers)], catch_exceptions=False
        )
