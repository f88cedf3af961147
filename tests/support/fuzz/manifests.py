"""Checkpoints' manifests: `parse` returns one that is written as it stands, or raises ValueError."""

import json
from contextlib import suppress

from hypothesis import strategies as st

from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import Mutations, mutated_bytes, mutated_data, of_bytes, of_data
from workloads.checkpoint import layout, manifest
from workloads.checkpoint.manifest import Manifest, ManifestEntry

VALID = [
    manifest.render(Manifest(7, world, {name: ManifestEntry(9, "0" * 64) for name in layout.file_names(world)}))
    for world in (1, 2, 5)
]


def check(case: tuple[bytes, Mutations, Mutations]) -> None:
    text, data, raw = case
    changed = json.dumps(mutated_data(json.loads(text), data), indent=1).encode(errors="surrogatepass") + b"\n"
    for content in (changed, mutated_bytes(text, raw), mutated_bytes(changed, raw)):
        with suppress(ValueError):
            found = manifest.parse(content)
            assert manifest.render(found) == content and len(found.files) == 2 * found.world


def run(count: int, number: int) -> None:
    cases(count, number, st.tuples(st.sampled_from(VALID), of_data, of_bytes), check)
