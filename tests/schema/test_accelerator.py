"""What cannot be together is refused with what would fit; what can be is not, and what would fit is accepted."""

import re
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rackwright.schema import Host, Needs
from rackwright.schema.accelerator import Accelerators, problems, read_choices
from rackwright.schema.accelerator.alternatives import CANDIDATES, contradictions, find_alternative
from rackwright.schema.accelerator.choices import GPU_ENVIRONMENTS, PLACES, ROLES, WORKLOADS_TORCH, torch_parts
from rackwright.schema.accelerator.layout import explain_misfit
from rackwright.schema.accelerator.rules import RULES
from rackwright.schema.catalogue import GPUS, MIG, PROFILES, SOFTWARE, Precision
from rackwright.schema.problem import Problem, Problems
from tests.support.contradictions import CASES, GOOD, HOST, NVIDIA, Case, accelerators, message, messages
from tests.support.log import ROOT


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["says"])
def test_a_contradiction_is_refused_in_these_words(case: Case) -> None:
    a = accelerators(case)
    assert [rule.id for rule, _ in contradictions(a)] == case["rules"]
    assert messages(a) == case["messages"]


@pytest.mark.parametrize("case", [case for case in CASES if "gpus" not in case], ids=lambda case: case["says"])
def test_a_host_is_refused_where_its_accelerators_are(case: Case) -> None:
    with pytest.raises(ValidationError) as caught:
        Host.model_validate(HOST | case["host"])
    (detail,) = caught.value.errors(include_url=False)
    error = detail["ctx"]["error"]
    assert isinstance(error, Problems)
    assert [message(problem) for problem in error.problems] == case["messages"]


def test_every_rule_has_its_case() -> None:
    assert len(CASES) >= 30
    assert {rule for case in CASES for rule in case["rules"]} == {rule.id for rule in RULES}


def test_every_choice_has_a_place_and_its_way_to_be_mended() -> None:
    assert {field for rule in RULES for field in rule.choices} == CANDIDATES.keys()
    assert PLACES.keys() >= CANDIDATES.keys()


@pytest.mark.parametrize("a", GOOD.values(), ids=GOOD)
def test_what_goes_together_is_let_be(a: Accelerators) -> None:
    assert messages(a) == []


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("os", SOFTWARE.systems)
def test_a_profile_by_itself_is_let_be(profile: str, os: str) -> None:
    assert Host.model_validate(HOST | {"os": os, "profile": profile}).profile == profile


@pytest.mark.parametrize(
    ("gpus", "driver", "flavour"),
    [
        (("p100-16gb",), "535", "proprietary"),
        (("v100-32gb",), None, "proprietary"),
        (("t4",), "535", "open"),
        (("h100-sxm",), "580", "open"),
        (("b200",), "580", "open"),
        (("v100-32gb", "t4"), "535", "proprietary"),  # what both take
        (("t4",), "470", "proprietary"),  # from before there were open ones
        (("v100-32gb", "b200"), "580", None),
        (("b200",), "470", None),
        (("orin",), None, None),  # no PCI board of NVIDIA's
        ((), "535", None),
    ],
)
def test_gpus_and_driver_say_which_kernel_modules(
    gpus: tuple[str, ...], driver: str | None, flavour: str | None
) -> None:
    assert Accelerators("debian-12", gpus, roles=NVIDIA, driver=driver).usual_flavour == flavour


def test_role_workloads_needs_the_pytorch_of_its_lock() -> None:
    for name in GPU_ENVIRONMENTS:
        lock = (ROOT / f"roles/workloads/templates/opt/rackwright/workloads/{name}.txt.j2").read_text()
        [version] = re.findall(r"^torch==(\S+)", lock, re.M)
        assert torch_parts(version)[0] == torch_parts(WORKLOADS_TORCH)[0]
        assert Accelerators(workloads=True, environments=(name,)).workloads_build
    assert Accelerators(workloads=True).workloads_build
    assert Accelerators(workloads=True, environments=("serving",)).workloads_build is None
    assert Accelerators().workloads_build is None


def test_the_default_flavour_follows_the_gpus_and_a_declared_one_stays() -> None:
    def flavour(profile: str, **written: str) -> object:
        given = {"profile": profile, "roles": {"nvidia_driver": written}}
        return Host.model_validate(HOST | given).variables("nvidia_driver").get("flavour")

    assert flavour("training-v100") == "proprietary"
    assert flavour("training-a100") == "open"
    assert flavour("training-a100", flavour="proprietary") == "proprietary"
    assert flavour("virtual") is None


def test_an_unknown_system_lets_nothing_be_concluded() -> None:
    a = accelerators({"host": {"roles": {"nvidia_driver": {"version": "580"}}}})
    assert messages(a)
    assert messages(replace(a, os=None)) == []


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("3g.40gb 3g.40gb", ""),
        ("4g.40gb 3g.40gb", ""),
        ("3g.40gb 2g.20gb 1g.10gb 1g.10gb", ""),
        ("1g.20gb 1g.20gb 1g.20gb 1g.20gb", ""),
        ("1g.10gb " * 7, ""),
        ("7g.80gb 1g.10gb", "it has 7 compute slices, and they take 8"),
        ("4g.40gb 4g.40gb", "4g.40gb fits once"),
        ("1g.20gb 1g.20gb 1g.20gb 2g.20gb 1g.10gb", "it has 8 memory slices, and they take 9"),
        ("2g.20gb 2g.20gb 2g.20gb 1g.10gb+me 1g.10gb+me", "1g.10gb+me fits once"),
        ("2g.20gb 2g.20gb 1g.20gb 1g.10gb", ""),
        ("3g.40gb 1g.20gb 1g.10gb 1g.10gb", ""),
    ],
)
def test_instances_lie_beside_each_other(names: str, why: str) -> None:
    assert explain_misfit(names.split(), MIG["80gb"]) == why


versions = st.sampled_from(
    [None, "", "latest", "470", "535", "535.261.03", "550.163.01", "570", "580", "590.44.01", "595"]
)
cudas = st.sampled_from(["", "11.5", "11.8", "11.8.89", "12.4", "12.8", "13.0", "13.3", "twelve"])
instances = st.sampled_from(sorted({name for table in MIG.values() for name in table.profiles} | {"3g", ""}))
torches = st.builds(
    "{}+{}".format,
    st.sampled_from(["1.13", "2.5", "2.9.1", "2.14", "3.0"]),
    st.sampled_from(["cu118", "cu126", "cu128", "cu130", "cu999", "rocm6.4"]),
)
choices = st.builds(
    Accelerators,
    os=st.sampled_from([None, *SOFTWARE.systems]),
    gpus=st.lists(st.sampled_from([*GPUS]), max_size=2, unique=True).map(tuple),
    nvswitch=st.sampled_from([None, 3, 4]),
    roles=st.lists(st.sampled_from([*ROLES]), max_size=3, unique=True).map(tuple),
    driver=versions,
    driver_sets=st.booleans(),
    driver_source=st.sampled_from([None, "distribution", "vendor", "elsewhere"]),
    flavour=st.sampled_from([None, "open", "proprietary", "closed"]),
    ecc=st.sampled_from([None, True, False]),
    power_limit_watts=st.sampled_from([None, 0, 50, 100, 300, 10_000]),
    clocks_mhz=st.lists(st.integers(0, 3000), max_size=3).map(tuple),
    mig=st.lists(instances, max_size=4).map(tuple),
    fabric_manager=st.sampled_from([None, "auto", "on", "off", "maybe"]),
    cuda=st.lists(cudas, max_size=2, unique=True).map(tuple),
    cuda_default=st.none() | cudas,
    cuda_source=st.sampled_from([None, "distribution", "vendor"]),
    torch=st.none() | torches,
    needs_cuda=st.sampled_from([None, *SOFTWARE.cuda]),
    version=st.sampled_from([None, "", "5.7", "6.2.4", "6.4", "7.0.2", "1.17.0-495", "1.23", "36.4.4", "8.0.RC1"]),
    kernel=st.sampled_from([None, "", "5.4.0-1", "5.15.0-60-generic", "6.1.0-50-amd64", "6.8", "6.14.0", "newest"]),
    peer_memory=st.sampled_from([None, "none", "dma_buf", "nvidia_peermem", "both"]),
    network=st.sampled_from([None, "inbox", "doca", "elsewhere"]),
    precision=st.lists(st.sampled_from(get_args(Precision)), max_size=3, unique=True).map(tuple),
)


@given(choices)
def test_whatever_is_chosen_is_judged(a: Accelerators) -> None:
    for problem in problems(a):
        assert problem.diagnostic.problem.startswith("got ") and problem.diagnostic.expected
        assert problem.diagnostic.help[0].isupper() and not problem.diagnostic.help.endswith(".")


@given(choices)
def test_what_would_fit_is_accepted(a: Accelerators) -> None:
    found = contradictions(a)
    ways = [find_alternative(a, found, one, field) for one in found for field in one[0].choices]
    for change in filter(None, ways):
        after = contradictions(replace(a, **change))
        assert len(after) < len(found)
        assert {rule.id for rule, _ in after} <= {rule.id for rule, _ in found}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["says"])
def test_one_change_mends_what_one_mistake_broke(case: Case) -> None:
    a = accelerators(case)
    for one in (found := contradictions(a)):
        ways = [change for field in one[0].choices if (change := find_alternative(a, found, one, field)) is not None]
        assert ways or case["rules"] == ["gpu-flavour"], "nothing fits, which is true of the two boards alone"
        assert len(found) > 1 or all(contradictions(replace(a, **change)) == () for change in ways)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["535", "3g.40gb"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
variables = st.dictionaries(
    st.sampled_from([path[-1] for path in PLACES.values() if len(path) == 3]), anything, max_size=6
)


@given(st.dictionaries(st.sampled_from([*ROLES]), variables, max_size=3), st.sampled_from([*PROFILES]))
def test_whatever_stands_in_a_role_is_read(roles: dict[str, dict[str, Any]], profile: str) -> None:
    assert all(
        isinstance(problem, Problem)
        for problem in problems(read_choices("debian-12", PROFILES[profile], roles, Needs()))
    )


@pytest.mark.parametrize("written", ["535", 535])
def test_a_number_is_read_as_ansible_reads_it(written: object) -> None:
    roles = {"nvidia_driver": {"version": written}, "cuda": {"versions": [11.8], "default": "11.8"}}
    a = read_choices("debian-12", PROFILES["training-a100"], roles, Needs())
    assert (a.driver, a.cuda, messages(a)) == ("535", ("11.8",), [])
