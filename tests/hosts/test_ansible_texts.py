"""Texts of fleets and secrets reach the real Ansible as they are: nothing in them is a template."""

import json
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from rackwright.hosts.ansible import inventory_text
from tests.support.ansible_inventory import read_inventory
from tests.support.planted import TEXTS, planted_variables, play, role_options, text, written

ANY_TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT
VALUES = st.recursive(
    SCALARS | st.sampled_from([*TEXTS, "!unsafe", "<<", "=", "&a", "*a", "1_000", "012", "0o17", "yes", "12:30:45"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


def test_no_option_of_a_role_runs_a_program_on_this_computer(tmp_path: Path) -> None:
    """
    One role here, with one form of the text for each value. `make accept ONLY=hardening2.1` tries all.
    """
    planted = planted_variables("base", role_options()["base"], 1, tmp_path)
    failures = play("base", planted)

    assert written(tmp_path, planted) == []
    assert len(failures) == len(planted) > 60, "a host without failure was not there to be played"


@given(st.dictionaries(ANY_TEXT, VALUES, max_size=4))
def test_an_inventory_is_read_as_it_was_written(variables: dict[str, object]) -> None:
    groups = {"role": {"hosts": {"alpha": variables}}}

    assert read_inventory(inventory_text(groups)) == json.loads(json.dumps(groups))


def test_no_text_of_an_inventory_is_a_template_for_ansible(tmp_path: Path) -> None:
    """
    Ansible's own reader of inventories marks texts as templates. It marks no key and no value of ours.
    """
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import is_trusted_as_template

    planted = text(0, "true")
    value = {"a": planted, planted: [planted, {planted: {"b": planted}}], "__ansible_vault": planted}

    def trusted(loaded: object) -> list[object]:
        if isinstance(loaded, dict):
            return [each for item in loaded.items() for part in item for each in trusted(part)]
        if isinstance(loaded, list):
            return [each for item in loaded for each in trusted(item)]
        return [loaded] if is_trusted_as_template(loaded) else []

    def load(written: str, path: Path) -> object:
        path.write_text(written)
        return DataLoader().load_from_file(str(path), cache="none", trusted_as_template=True)

    assert trusted(load(inventory_text(value), tmp_path / "ours.yml")) == []
    assert trusted(load(yaml.safe_dump(value), tmp_path / "plain.yml")) != []
