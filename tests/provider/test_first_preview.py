"""The first preview of a deployment warns of nothing that the same run makes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from rackwright.core.contract import EndpointSource, Source, UnknownValue
from rackwright.core.repository import Repository
from rackwright.hosts.rollout import RolloutGate
from rackwright.provider import lifetime, outcomes
from rackwright.provider.site import Site
from rackwright.schema.rollout import Rollout
from tests.support.operations_log import in_memory
from tests.support.provider_rig import BOX, RED, Rig, rig
from tests.support.toy_kind import TOKEN, Box, BoxSpec, Memory, execute

SHELF = "rackwright:toy:Shelf"


class ShelfSpec(BoxSpec):
    """A box at an endpoint, which does not answer."""

    @property
    def facts_source(self) -> Source:
        return EndpointSource("s3", "archive")


class Shelf(Box):
    token: ClassVar[str] = SHELF
    spec = ShelfSpec


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def stack(memory: Memory, tmp_path, monkeypatch):
    """A provider of a box and, after it, of a shelf whose endpoint the box makes."""
    monkeypatch.setenv(lifetime.VARIABLE, str(tmp_path / "records"))

    def open_site(name: str, secrets: Mapping[str, str]) -> Site:
        gate = RolloutGate(Rollout(), lambda: False)
        after = {(SHELF, "h1/shelf"): ("h1/a.b",)}
        find = lambda *id: after.get(id, ())  # noqa: E731
        return Site(Repository({}), memory, execute, gate, in_memory(), find_prerequisites=find)

    with rig({TOKEN: Box(), SHELF: Shelf()}, open_site) as made:
        yield made


def preview_shelf(stack: Rig) -> None:
    stack.token = SHELF
    stack.create({**RED, "name": "shelf"}, preview=True)


def test_an_endpoint_that_the_run_makes_first_is_no_warning(stack, tmp_path) -> None:
    stack.create(RED, preview=True)
    preview_shelf(stack)

    assert stack.messages("WARNING") == []
    assert "s3:archive is made before; the plan of this resource is unknown" in stack.messages("INFO")
    assert not outcomes.read(tmp_path / "records").get("unreachable")


def test_an_endpoint_that_exists_and_does_not_answer_is_a_warning(stack, memory, tmp_path) -> None:
    """The resource that makes it is as declared, so that this run does not change it."""
    made = stack.create(RED)
    stack.update(made, RED, preview=True)
    preview_shelf(stack)

    [warning] = stack.messages("WARNING")
    assert "the stack has no such endpoint" in warning
    assert outcomes.read(tmp_path / "records")["unreachable"] == {"h1/shelf"}


class Uncertain(Box):
    """A box whose lid cannot be seen before the box is made, and that needs manual work for it."""

    def plan(self, spec: Any, differences: Any, facts: Any, repository: Any) -> Any:
        plan = super().plan(spec, differences, facts, repository)
        return replace(plan, by_hand=tuple(each for each in differences if each.name == "lid"))

    def observe(self, claims: Any, facts: Any) -> Any:
        seen = super().observe(claims, facts)
        box = dict(seen[BOX])
        if BOX not in facts.raw["things"]:
            box["lid"] = UnknownValue("there is no box")
        return {**seen, BOX: box}


def test_what_is_unknown_before_its_creation_is_no_manual_work(tmp_path, monkeypatch):
    monkeypatch.setenv(lifetime.VARIABLE, str(tmp_path / "records"))
    with rig({TOKEN: Uncertain()}) as made:
        made.create(RED, preview=True)
        assert not any("there is no box" in text for text in (*made.messages("INFO"), *made.messages("WARNING")))
        record = outcomes.read_plans(tmp_path / "records")["h1/a.b"]
        assert (record.by_hand, record.known_later) == ((), 1)
        assert any(text.endswith("\n1 property is known after the steps") for text in made.messages("INFO"))
