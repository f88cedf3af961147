"""Every packet filter that rackwright renders: no rule is about one family alone, and a neighbour tries each."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.net_namespaces import namespaces
from tests.support.packet_filters import (
    PROXIES,
    TEAMS,
    UNIT,
    control_group,
    firewalls,
    load,
    one_sided,
    rendered,
    templates,
)
from tests.support.pod_network import NEW

TRIED = {
    TEAMS: "tests/roles/test_pod_isolation.py",
    PROXIES: "tests/roles/test_proxy_clients.py",
    UNIT: "tests/kinds/test_firewall.py",
}
"""The test of each template in which a neighbour tries it, by both families."""


def test_each_template_with_rules_is_rendered_here_and_tried_by_a_neighbour() -> None:
    assert templates() == {*rendered()} == {*TRIED}
    for test in TRIED.values():
        text = Path(__file__).parents[1].joinpath(test).read_text()
        assert "namespaces(" in text or "pod_network(" in text or "net_namespaces import" in text, test


@pytest.mark.parametrize("template", TRIED)
def test_no_rule_closes_something_to_one_family_alone(template: str, tmp_path: Path) -> None:
    with control_groups_of_all(), namespaces(tmp_path, "host") as made:
        for text in rendered()[template]:
            listed = load(made["host"], text)
            assert any("rule" in each for each in listed)
            assert one_sided(listed) == []


@pytest.mark.parametrize(
    ("template", "pattern"), [(TEAMS, NEW), (TEAMS, "ipv6"), (PROXIES, "ip6"), (UNIT, "nfproto ipv6|nfproto ipv4")]
)
def test_rules_for_one_family_are_found(template: str, pattern: str, tmp_path: Path) -> None:
    text = next(text for text in rendered()[template] if re.search(pattern, text))
    weakened = "".join(line for line in text.splitlines(keepends=True) if not re.search(pattern, line))
    with control_groups_of_all(), namespaces(tmp_path, "host") as made:
        assert one_sided(load(made["host"], weakened)) != []


def control_groups_of_all() -> ExitStack:
    """Make the control groups that the rules name."""
    stack = ExitStack()
    for unit in sorted({each.unit for each in firewalls().values()}):
        stack.enter_context(control_group(unit))
    return stack
