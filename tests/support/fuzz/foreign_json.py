"""JSON of others: the reader gives what Python's reader gives, within its bounds, or raises InvalidData."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st

from rackwright.endpoints import restore_result
from rackwright.errors import ChangeRefused
from rackwright.tiering import manifest
from rackwright.tiering.manifest import ArchiveDamaged, ArchivedFile
from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import Mutations, mutated_bytes, mutated_data, of_bytes, of_data
from workloads.foreign import InvalidData, parse_json

KEY, AT = "0" * 64, 1_800_000_000.0
VALID = [
    restore_result.render(KEY, "models", {"archive": "model-1", "at": AT, "passed": True, "problem": "", "files": 3}),
    manifest.Manifest(
        name="model-1",
        files=tuple(ArchivedFile(path=f"a/{n}", bytes=n, sha256="0" * 64, mode=0o640) for n in range(3)),
    ).render(),
    b'[{"digest": "sha256:0", "size": 7, "annotations": {"a": [1.5, null, true, "\\ud83d\\ude00"]}}]',
]


def check(case: tuple[bytes, Mutations, Mutations, bytes]) -> None:
    text, data, raw, noise = case
    changed = json.dumps(mutated_data(json.loads(text), data)).encode(errors="surrogatepass")
    for content in (changed, mutated_bytes(text, raw), mutated_bytes(changed, raw), noise):
        for lenient in (False, True):
            with suppress(InvalidData):
                _same(parse_json(content, lenient=lenient), content)
        with suppress(InvalidData):
            result = restore_result.parse(KEY, "models", content, AT)
            assert result == {"at": AT, "passed": True} and _signed(content), "a result that was not signed"
        with suppress(ArchiveDamaged, ChangeRefused):
            manifest.parse(content, "s3://models/model-1/manifest.json").render()


def _same(value: Any, content: bytes) -> None:
    assert repr(value) == repr(json.loads(content.decode())), "read in another way than by Python"


def _signed(content: bytes) -> bool:
    return bool(json.loads(content) == json.loads(VALID[0]))


def run(count: int, number: int) -> None:
    cases(
        count,
        number,
        st.tuples(st.sampled_from(VALID), of_data, of_bytes, st.binary() | st.text().map(str.encode)),
        check,
    )
