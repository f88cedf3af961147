"""Line 2: masking of many records, and what it refuses."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rackwright.errors import DeclarationError
from rackwright.masking.check import check_data
from rackwright.masking.policy import load_policy
from rackwright.masking.recognisers import Recogniser
from rackwright.masking.run import Masking
from rackwright.schema.masking import TextRules
from tests.support import planted_leaks, wrong_policies
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.personal_data import COUNTRIES, KINDS, ORDINARY, full_width, sentence, zero_width

KEY = "0123456789abcdef" * 4
POLICY = f"""\
policy: visits
key: {{secret: masking_key}}
columns:
  id: {{rule: pseudonym, domain: patient}}
  name: {{rule: drop}}
  notes: {{rule: text}}
  "messages[].content": {{rule: text}}
text: {{countries: [{", ".join(COUNTRIES)}], records: {{mrn: ["MRN-#######"]}}}}
"""
ROWS, CONVERSATIONS = 1_000_000, 100_000
MEMORY_MIB = 300
WRITINGS = (str, str, str, full_width, zero_width)
PROGRAM = """
import resource, sys
from pathlib import Path
from rackwright.masking.policy import load_policy
from rackwright.masking.run import Masking
policy, source, target, form = sys.argv[1:]
Masking(load_policy(Path(policy)), policy, "0123456789abcdef" * 4).run(source, Path(target), form or None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@line("privacy", 2, part="mask")
def test_no_identifier_is_left_in_many_records(log: Log) -> str:
    """Its size is that of the line; `ACCEPT_SHARE` takes a part of it, which the figure names."""
    share = float(os.environ.get("ACCEPT_SHARE", "1"))
    folder = log.empty_directory()
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "raw").mkdir()
    log("writing the records")
    values = [*_rows(folder / "raw/rows.csv", int(ROWS * share))]
    values += _conversations(folder / "raw/chats.jsonl", int(CONVERSATIONS * share))
    records = int(ROWS * share) + int(CONVERSATIONS * share)
    log(f"masking {records:,} records with {len(values):,} identifiers")
    began = time.monotonic()
    done = log.run(_program(folder, str(folder / "raw"), "masked", ""), ROOT)
    need(done.returncode == 0, done.stderr[-300:])
    seconds, memory = time.monotonic() - began, int(done.stdout) / 1024
    left, ids = _left(folder / "masked", values)
    need(not left, f"{left} identifiers are left")
    need(len({*ids}) == len(ids) // 2, "the same person has several pseudonyms")
    need(memory <= MEMORY_MIB, f"{memory:.0f} MiB")
    wrong, ordinary = _precision()
    need(wrong <= ordinary / 100, f"{wrong} of {ordinary} ordinary numbers are taken for identifiers")
    return (
        f"{records:,} records with {len(values):,} identifiers of {len(KINDS)} kinds: none left; {memory:.0f} MiB, "
        f"{records / seconds:,.0f} records/s; {wrong} of {ordinary:,} ordinary numbers replaced"
    )


def _program(folder: Path, source: str, target: str, form: str) -> list[str]:
    """Return the arguments of a process that masks *source*."""
    return [sys.executable, "-c", PROGRAM, str(folder / "policy.yaml"), source, str(folder / target), form]


def _value(source: random.Random, index: int) -> str:
    return source.choice(WRITINGS)(list(KINDS.values())[index % len(KINDS)](source))


def _rows(path: Path, number: int) -> Iterator[str]:
    """Write rows, and yield the identifiers in them."""
    source = random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name", "notes"])
        for index in range(number):
            value = _value(source, index)
            writer.writerow([f"P{index}x", "Wang", sentence(source, value)])
            yield value


def _conversations(path: Path, number: int) -> Iterator[str]:
    source = random.Random(2)
    with path.open("w") as file:
        for index in range(number):
            values = [_value(source, index + each) for each in range(3)]
            messages = [{"content": sentence(source, value)} for value in values]
            file.write(json.dumps({"id": f"P{index}x", "messages": messages}, ensure_ascii=bool(index % 2)) + "\n")
            yield from values


def _left(folder: Path, values: list[str]) -> tuple[int, list[str]]:
    """Return how many of *values* are in the texts of *folder*, and the pseudonyms of persons in both files."""
    texts: set[str] = set()
    rows: dict[int, str] = {}
    with (folder / "rows.csv").open(newline="") as file:
        for index, row in enumerate(csv.DictReader(file)):
            rows[index] = row["id"]
            texts.update(_words(row["notes"]))
    ids = []
    for index, each in enumerate((folder / "chats.jsonl").open()):
        record = json.loads(each)
        ids += [record["id"], rows[index]]
        for message in record["messages"]:
            texts.update(_words(message["content"]))
    return sum(value in texts for value in values), ids


def _words(text: str) -> Iterator[str]:
    """Yield each part of a masked *text* that a sentence has in the place of its value."""
    from tests.support.personal_data import SENTENCES

    for form in SENTENCES:
        before, _, after = form.partition("{}")
        if text.startswith(before) and text.endswith(after):
            yield text[len(before) : len(text) - len(after)]


def _precision() -> tuple[int, int]:
    """Return how many ordinary numbers are taken for identifiers of China and Germany, and of how many."""
    source, recogniser = random.Random(3), Recogniser(TextRules(countries=("CN", "DE")))
    texts = [sentence(source, make(source)) for make in ORDINARY.values() for _ in range(2000)]
    return sum(bool(recogniser.find(each)) for each in texts), len(texts)


@line("privacy", 2, part="policy")
def test_wrong_policies_leaks_and_kills_are_found_or_refused(log: Log) -> str:
    folder = log.empty_directory()
    policies = _wrong_policies(folder)
    leaks = _planted_leaks(folder)
    kills = sum(_killed(folder, after) for after in (0, 1, 7, 20))
    return f"{policies} wrong policies, {leaks} planted leaks, {kills} kills"


def _wrong_policies(folder: Path) -> int:
    for old, new, expected in wrong_policies.WRONG:
        path = folder / "policy.yaml"
        path.write_text(wrong_policies.POLICY.replace(old, new))
        try:
            load_policy(path)
            need(False, f"{new} is accepted")
        except DeclarationError as error:
            need(f"policy.yaml:{expected}" in str(error), f"{new}: {error}")
    return len(wrong_policies.WRONG)


def _planted_leaks(folder: Path) -> int:
    (folder / "policy.yaml").write_text(planted_leaks.POLICY)
    policy = load_policy(folder / "policy.yaml")
    planted_leaks.write_lines(folder / "raw.jsonl", planted_leaks.raw_records())
    Masking(policy, "", KEY).run(str(folder / "raw.jsonl"), folder / "masked.jsonl")
    need(not check_data(policy, str(folder / "masked.jsonl"))["findings"], "masked data have findings")
    for name, change in planted_leaks.VALUES.items():
        records = [json.loads(each) for each in (folder / "masked.jsonl").read_text().splitlines()]
        change(records[7])
        planted_leaks.write_lines(folder / "leak.jsonl", records)
        findings = check_data(policy, str(folder / "leak.jsonl"))["findings"]
        need([each for each in findings if each["column"] != "report"], f"{name} is not found")
    return len(planted_leaks.VALUES)


def _killed(folder: Path, writes: int) -> bool:
    """Kill a masking after so many *writes* of 1000 records to its input, which never ends."""
    (folder / "policy.yaml").write_text(POLICY)
    process = subprocess.Popen(_program(folder, "-", "killed.jsonl", "jsonl"), stdin=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None
    for _ in range(writes):
        process.stdin.write((json.dumps({"id": 1, "notes": "电话13800138000"}) + "\n").encode() * 1000)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
    need(not [*folder.glob("killed*")], "a killed masking left a file that looks whole")
    return True
