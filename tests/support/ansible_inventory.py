"""Ansible's inventories, read without Ansible."""

from typing import Any

import yaml


class _Loader(yaml.CSafeLoader):
    """libyaml with Ansible's tag for texts that are no templates."""


_Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_mapping(node, deep=True))


def read_inventory(text: str) -> dict[str, Any]:
    """Return the groups of the inventory *text*, whose whole content is tagged as no template.

    Raises:
        AssertionError: The tag is missing, or does not cover all.
    """
    assert text.startswith("!unsafe\n")
    groups: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 -- a safe loader
    return groups
