"""The hospital's policy for its letters: what the run learns from has no identifier, and is whole otherwise."""

import json
import random
from pathlib import Path

import pytest

from rackwright.errors import ChangeRefused
from rackwright.fleet.source import read
from rackwright.masking.check import check_data
from rackwright.masking.policy import load_policy
from rackwright.masking.run import Masking
from tests.support.personal_data import KINDS, sentence
from tests.support.sources import ROOT

FOLDER = ROOT / "stacks/hospital"
HERE = ("mobile", "German telephone", "e-mail", "Chinese id", "IBAN", "card", "German tax id", "record number")
"""Kinds of identifiers of the policy's countries."""


def letters(number: int) -> list[tuple[dict[str, object], list[str]]]:
    """Return letters, each with the identifiers in it."""
    source, found = random.Random(11), []
    for index in range(number):
        values = [KINDS[each](source) for each in HERE]
        letter = {
            "patient": f"P-{index:06}x",
            "name": "Anna Berg",
            "born": "1961-02-03",
            "admitted": "2026-01-02",
            "discharged": "2026-01-09",
            "ward": source.choice("AB"),
            "messages": [
                {"role": "user", "content": " ".join(sentence(source, each) for each in values)},
                {"role": "assistant", "content": "Stable."},
            ],
        }
        found.append((letter, [*values, f"P-{index:06}x", "Anna Berg", "1961-02", "2026-01-02"]))
    return found


def mask(directory: Path, records: list[dict[str, object]]) -> Path:
    (directory / "raw.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    policy = load_policy(FOLDER / "masking/letters.yaml")
    Masking(policy, "letters.yaml", "k" * 40).run(str(directory / "raw.jsonl"), directory / "letters.jsonl")
    return directory / "letters.jsonl"


def test_the_letters_have_no_identifier_and_stay_conversations(tmp_path: Path) -> None:
    records, secrets = zip(*letters(60), strict=True)
    masked = mask(tmp_path, list(records))
    text = masked.read_text()

    assert [value for several in secrets for value in several if value in text] == []
    assert check_data(load_policy(FOLDER / "masking/letters.yaml"), str(masked))["findings"] == []
    for line in text.splitlines():
        letter = json.loads(line)
        assert [each["role"] for each in letter["messages"]] == ["user", "assistant"]
        assert letter["messages"][1]["content"] == "Stable." and "name" not in letter


def test_letters_of_few_people_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ChangeRefused, match="share their quasi-identifiers with too few others"):
        mask(tmp_path, [letter for letter, _ in letters(4)])


def test_the_run_learns_from_the_masked_file() -> None:
    run = read(FOLDER / "models.yaml").data["runs"]["letters"]

    assert run["set"]["data"]["path"] == "/srv/warm/data/letters.jsonl"
    assert {"messages[].role", "messages[].content"} <= load_policy(FOLDER / "masking/letters.yaml").columns.keys()
