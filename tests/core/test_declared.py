"""The JSON of a declaration: Pulumi's wire changes some values, and a spec has them as they are declared."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rackwright.core.contract import SpecPart
from rackwright.core.declared import Declared
from rackwright.provider.codec import decode, encode
from rackwright.schema.run import CheckpointPolicy, Run
from rackwright.schema.server import Gate, ServedModel, Server
from rackwright.schema.tier import Tier

NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=4).filter(str.isprintable) | st.just("json")
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=8,
)


class Holder(SpecPart):
    run: Declared[Run] | None = None
    server: Declared[Server] | None = None
    tier: Declared[Tier] | None = None


def without_null(value: Any) -> Any:
    """Return *value* as Pulumi's SDK sends it."""
    if isinstance(value, dict):
        return {name: without_null(each) for name, each in value.items() if each is not None}
    return [without_null(each) for each in value] if isinstance(value, list) else value


def over_the_wire(holder: Holder) -> Holder:
    return Holder.model_validate_json(json.dumps(decode(encode(inputs(holder)))))


def inputs(holder: Holder) -> dict[str, Any]:
    return without_null(holder.model_dump(mode="json", exclude_none=True))


@given(st.dictionaries(TEXTS.filter(lambda name: name not in ("name", "world", "elastic", "launcher")), VALUES))
def test_each_value_of_a_set_arrives_as_it_is_declared(values: dict[str, Any]) -> None:
    run = Run(recipe="digits", hosts=("ash",), checkpoints=CheckpointPolicy(tier="warm"), set=values)

    arrived = over_the_wire(Holder(run=run)).run

    assert arrived is not None
    assert json.dumps(arrived.set, sort_keys=True) == json.dumps(values, sort_keys=True)


def test_a_declared_null_is_not_the_default() -> None:
    server = Server(model=ServedModel(path="m"), hosts=("ash",), anybody=True, gate=Gate(accuracy_kept=None))

    arrived = over_the_wire(Holder(server=server)).server

    assert arrived is not None and arrived.gate.accuracy_kept is None


def test_keys_are_those_of_the_fleet_and_defaults_are_left_out() -> None:
    declared = {"level": "raid5", "filesystem": "xfs", "mount": "/srv/a", "chunk": "256KiB", "ppl": True}
    run = {"recipe": "digits", "hosts": ["ash"], "checkpoints": {"tier": "warm"}, "continue": True}

    holder = Holder(tier=Tier.model_validate_json(json.dumps(declared)), run=Run.model_validate_json(json.dumps(run)))

    assert inputs(holder) == {"tier": declared, "run": run}
