"""The catalogue: every value says whose it is, and what it names is there."""

import re
from itertools import chain
from pathlib import Path

import pytest
from pydantic import ValidationError

from rackwright.schema.catalogue import (
    ARCHITECTURES,
    GPUS,
    MIG,
    PROFILES,
    SOFTWARE,
    UNVERIFIED,
    Cuda,
    Gpu,
    Profile,
    rows,
    source_text,
    unverified_values,
)

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "catalogue.md"
ROWS = dict(rows())


def test_a_value_without_a_source_is_no_row() -> None:
    with pytest.raises(ValidationError, match="each of .* has one source"):
        Cuda(driver="570.26", minimum="525.60.13", sources={"cuda-drivers": ("driver",)})


def test_a_value_has_one_source_only() -> None:
    with pytest.raises(ValidationError, match="each of .* has one source"):
        Profile(nvswitch=3, sources={"fabric-manager": ("nvswitch",), UNVERIFIED: ("nvswitch",)})


def test_a_source_has_to_be_there() -> None:
    with pytest.raises(ValidationError, match="no such source: hearsay"):
        Profile(nvswitch=3, sources={"hearsay": ("nvswitch",)})


def test_what_is_not_verified_is_not_known() -> None:
    orin = GPUS["orin"]
    assert orin.ecc is False and orin.verified_value("ecc") is None and orin.source("ecc") == ""
    assert orin.verified_value("power_max_watts") == 60 and orin.source("power_max_watts") == source_text("orin")


def test_the_reference_counts_what_is_not_verified() -> None:
    values = sum(len(row.values) for row in ROWS.values())
    text = " ".join(REFERENCE.read_text().split())
    assert f"has {len(GPUS)} accelerators" in text
    assert f"{values} values; {len(unverified_values())} of them have no published source" in text


def test_every_source_has_a_kind() -> None:
    named = set(chain.from_iterable(row.sources for row in ROWS.values())) - {UNVERIFIED}
    path = Path(__file__).parents[2] / "rackwright" / "schema" / "catalogue" / "sources.yaml"
    ids = {line.partition(":")[0] for line in path.read_text().splitlines() if not line.startswith("#")}
    assert ids == named


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_what_a_gpu_names_is_there(gpu: Gpu) -> None:
    assert gpu.architecture in ARCHITECTURES
    assert gpu.mig in (None, "none", *MIG)
    assert all(re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}", id) for id in gpu.pci)


def test_an_id_is_of_one_gpu() -> None:
    ids = [id for gpu in GPUS.values() for id in gpu.pci]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_profile_has_gpus_of_the_catalogue(profile: Profile) -> None:
    assert profile.gpus.keys() <= GPUS.keys()


@pytest.mark.parametrize("name", MIG)
def test_as_many_instances_as_are_declared_find_room(name: str) -> None:
    table = MIG[name]
    for profile in table.profiles.values():
        assert profile.count * profile.compute <= table.compute_slices
        assert profile.count * profile.memory <= table.memory_slices


def test_a_build_of_torch_is_made_with_a_known_cuda() -> None:
    assert {build.cuda for build in SOFTWARE.torch} <= {None, *SOFTWARE.cuda}
    named = [(release, build.tag) for build in SOFTWARE.torch for release in build.releases]
    assert len(named) == len(set(named))
