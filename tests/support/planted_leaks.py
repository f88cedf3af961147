"""Masked data with one leak each: what a check without the key has to find."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.personal_data import COUNTRIES, KINDS, full_width, sentence, zero_width

POLICY = f"""\
policy: visits
key: {{secret: masking_key}}
columns:
  id: {{rule: pseudonym, domain: patient}}
  name: {{rule: drop}}
  birth: {{rule: generalise, to: decade}}
  month: {{rule: generalise, to: month}}
  year: {{rule: generalise, to: year}}
  zip: {{rule: generalise, to: prefix, length: 2}}
  age: {{rule: generalise, to: bins, edges: [18, 65]}}
  seen: {{rule: shift_dates, person: id}}
  left: {{rule: shift_dates, person: id, form: "%d.%m.%Y"}}
  ward: {{rule: keep}}
  "messages[].content": {{rule: text}}
  notes: {{rule: text}}
text: {{countries: [{", ".join(COUNTRIES)}], records: {{mrn: ["MRN-#######"]}}}}
quasi_identifiers: {{columns: [birth, ward], k: 3, sensitive: zip, l: 2}}
"""
Record = dict[str, Any]


def raw_records() -> list[Record]:
    """Return records before their masking."""
    return [
        {
            "id": f"P{index}",
            "name": "Wang",
            "birth": "1961-02-03",
            "month": "1961-02-03",
            "year": 1961,
            "zip": f"1{index % 3}044",
            "age": 20 + index,
            "seen": "2026-01-02",
            "left": "03.01.2026",
            "ward": "A",
            "messages": [{"content": "hello"}],
            "notes": "nothing",
        }
        for index in range(12)
    ]


def write_lines(path: Path, records: list[Record]) -> None:
    """Write *records* as JSON Lines."""
    path.write_text("".join(json.dumps(each) + "\n" for each in records))


def _values() -> dict[str, Callable[[Record], object]]:
    """Return changes of one masked record by name."""
    source = random.Random(3)
    leaks: dict[str, Callable[[Record], object]] = {}
    for kind, make in KINDS.items():
        text = sentence(source, source.choice((str, full_width, zero_width))(make(source)))
        leaks[f"{kind} in a text"] = lambda record, text=text: record.update(notes=text)
    nested = sentence(source, KINDS["mobile"](source))
    leaks["mobile in a conversation"] = lambda record: record["messages"][0].update(content=nested)
    wrong = {
        "id": ("P7", 7, "patient_", "patient_bcdfghjklmnpqrs", "other_bcdfghjklmnpqrst", "patient_bcdfghjklmnpqrsT"),
        "birth": ("1961-02-03", "1961", 1961, "1961s", "60s"),
        "month": ("1961-02-03", "1961-13"),
        "year": ("1961-02", 1961, "61"),
        "zip": ("11044", "110*", "11", "1*"),
        "age": (21, "21", "18-<64"),
        "seen": ("tomorrow", "02.01.2026", 20260102, "2026-01-02T10:11:12.123456789", "2026-01-02T10:11Z"),
        "left": ("2026-01-03",),
    }
    for name, values in wrong.items():
        for value in values:
            leaks[f"{name} is {value!r}"] = lambda record, name=name, value=value: record.update({name: value})
    leaks["a dropped column"] = lambda record: record.update(name="Wang")
    leaks["a dropped column without a value"] = lambda record: record.update(name=None)
    leaks["a column without a rule"] = lambda record: record.update(phone="x")
    leaks["a key that is a number"] = lambda record: record.update({"13800138000": None})
    leaks["a nested key without a rule"] = lambda record: record["messages"][0].update(tool=True)
    leaks["an object in the place of a text"] = lambda record: record.update(notes={"text": "x"})
    leaks["a list in the place of a pseudonym"] = lambda record: record.update(id=["P7"])
    leaks["one record of another ward"] = lambda record: record.update(ward="B")
    return leaks


VALUES: Mapping[str, Callable[[Record], object]] = _values()
"""Changes of one masked record, by what they leak."""
