"""`rackwright federation verify`: transcripts of sites, their signatures, and what they contradict."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from tests.support.federations import SITES, digest, statement, terms, transcript, write_signed
from workloads.errors import UserError
from workloads.federation import round_folders
from workloads.federation.compare import contradictions
from workloads.federation.messages import RoundReply, Statement
from workloads.federation.transcript import NAMESPACE, Entry, Transcript, read_verified

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


def several(count: int, **changes: Sequence[Any]) -> Change:
    """Return the change to *count* entries, of which each has its own values."""

    def change(each: Transcript) -> Transcript:
        first = each.entries[0]
        entries = [
            first.model_copy(
                update={"request": first.request.model_copy(update={k: v[n % len(v)] for k, v in changes.items()})}
            )
            for n in range(count)
        ]
        return each.model_copy(update={"entries": tuple(entries)})

    return change


@pytest.mark.parametrize(
    "change",
    [
        several(4, round=[2]),
        several(3001, round=range(1, 1001)),
        several(1, round=[1001]),
        several(5, round=range(1, 6), terms=[terms(clip_norm=1.0 + n) for n in range(5)]),
        several(1, statement=[statement(1).model_copy(update={"updates": {f"s{n}": digest("u") for n in range(65)}})]),
        several(1, statement=[statement(1).model_copy(update={"excluded": {f"s{n}": "" for n in range(65)}})]),
    ],
    ids=["repeats", "entries", "rounds", "terms", "updates", "excluded"],
)
def test_a_transcript_with_more_than_a_training_gives_is_refused(tmp_path: Path, change: Change) -> None:
    paths, signers = write_signed(tmp_path, [change(transcript("a"))])
    with pytest.raises(UserError, match="has another form|longer than"):
        read_verified(paths[0], signers)


def test_the_longest_transcripts_are_compared_in_one_pass(tmp_path: Path) -> None:
    models = [digest(f"other{n}") for n in range(3000)]
    longest = several(3000, round=[n // 3 + 1 for n in range(3000)], model=models)(transcript("a"))
    paths, signers = write_signed(tmp_path, [longest])
    found = read_verified(paths[0], signers)
    differ = [each for each in contradictions([found]) if "model to start from differ" in each.problem]
    assert [each.round for each in differ] == [*range(1, 1001)]


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
        place = Path(str(round_folders.folder(tmp_path, request.round)))
        (place / round_folders.REPLIES / "b").mkdir(parents=True)
        (place / round_folders.REQUEST).write_text(request.model_dump_json())
    reply = RoundReply(site="b", round=2, request=digest("request"), update=digest("b2"), loss=0.5, accuracy=0.75)
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


def repeated(entry: Entry, **changes: Any) -> Change:
    """Return a change that puts a request with *changes* before the entries of the same round."""

    def change(each: Transcript) -> Transcript:
        false = entry.model_copy(update={"request": entry.request.model_copy(update=changes)})
        place = entry.request.round - 1
        return each.model_copy(update={"entries": (*each.entries[:place], false, *each.entries[place:])})

    return change


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": digest("false")}, "the model to start from differ between the messages to one site"),
        ({"statement": OTHER}, "the received updates differ between the messages to one site"),
        ({"statement": statement(1).model_copy(update={"model": digest("false")})}, "the model after the round differ"),
    ],
)
def test_a_repeat_of_a_round_counts_as_much_as_its_last_entry(
    changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    false = repeated(transcript("b").entries[1], **changes)
    document = verify(tmp_path, [false(transcript("b")), *(transcript(site) for site in ("a", "c", "d"))], 1)

    assert any(problem in each["problem"] and each["sites"] == ["b"] for each in document["contradictions"])


@pytest.mark.parametrize("last", [statement(3), None])
def test_an_update_of_a_site_is_compared_with_the_statements_to_all_sites(
    last: Statement | None, tmp_path: Path
) -> None:
    replaced = statement(3).model_copy(update={"updates": {**statement(3).updates, "c": digest("replaced")}})
    several = [transcript(site).model_copy(update={"conclusion": replaced}) for site in "abd"]
    several.append(transcript("c").model_copy(update={"conclusion": last}))

    problems = [(each["sites"], each["problem"]) for each in verify(tmp_path, several, 1)["contradictions"]]

    assert (["c"], "the coordinator lists another update than the site sent") in problems


def without_entry(site: str, round: int) -> Transcript:
    each = transcript(site)
    return each.model_copy(update={"entries": tuple(e for e in each.entries if e.request.round != round)})


def test_a_listed_update_without_an_entry_and_an_entry_without_a_listed_update_are_contradictions(
    tmp_path: Path,
) -> None:
    unlisted = {site: each for site, each in statement(3).updates.items() if site != "c"}
    ended = statement(3).model_copy(update={"updates": unlisted})
    several = [transcript(site).model_copy(update={"conclusion": ended}) for site in "abc"]
    document = verify(tmp_path, [*several, without_entry("d", 2).model_copy(update={"conclusion": ended})], 1)

    assert [(each["round"], each["sites"], each["problem"]) for each in document["contradictions"]] == [
        (2, ["d"], "the coordinator lists an update of the site, which has no entry"),
        (3, ["c"], "the coordinator lists no update of the site, and does not exclude it"),
    ]


@pytest.mark.parametrize(
    ("several", "found"),
    [
        ([Transcript(site=site) for site in SITES], [(1, []), (1, [*SITES])]),
        ([transcript(site, 2).model_copy(update={"conclusion": None}) for site in SITES], [(3, []), (3, [*SITES])]),
        ([transcript("a").model_copy(update={"conclusion": None}), *map(transcript, "bcd")], [(3, ["a"])]),
    ],
)
def test_rounds_and_statements_that_no_transcript_has_are_missing(
    several: list[Transcript], found: list[tuple[int, list[str]]], tmp_path: Path
) -> None:
    document = verify(tmp_path, several, 3)

    assert [(each["round"], each["sites"]) for each in document["gaps"]] == found


def test_a_statement_outside_the_terms_is_a_contradiction(tmp_path: Path) -> None:
    stranger = statement(3).model_copy(update={"updates": {**statement(3).updates, "z": digest("z")}})
    several = [transcript(site).model_copy(update={"conclusion": stranger}) for site in "abc"]
    several.append(transcript("d").model_copy(update={"conclusion": statement(9)}))

    problems = {(tuple(e["sites"]), e["problem"]) for e in verify(tmp_path, several, 1)["contradictions"]}

    assert (("z",), "the coordinator names a site that is no member") in problems
    assert (("d",), "the last statement is not about the last round") in problems


def test_the_status_of_terms_with_very_many_rounds_has_an_end(tmp_path: Path) -> None:
    place = Path(str(round_folders.folder(tmp_path, 1)))
    place.mkdir()
    request = json.loads(transcript("a").entries[0].request.model_dump_json())
    request["terms"]["rounds"] = 10**12
    (place / round_folders.REQUEST).write_text(json.dumps(request))

    with pytest.raises(UserError, match="terms.rounds has another form"):
        CliRunner().invoke(app, ["federation", "status", str(tmp_path)], catch_exceptions=False)
    assert round_folders.newest(tmp_path, 10**12) == 1
