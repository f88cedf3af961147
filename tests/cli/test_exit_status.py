"""The exit status of preview and up: what pulumi's single one is told apart into."""

import pytest

from rackwright.cli.pulumi import exit_status


@pytest.mark.parametrize(
    ("verb", "status", "changes", "found", "expected"),
    [
        ("up", 0, True, {}, 0),
        ("preview", 0, False, {}, 0),
        ("preview", 0, True, {}, 1),
        ("preview", 0, True, {"unreachable": {"a"}}, 1),
        ("up", 0, True, {"unreachable": {"a"}}, 3),
        ("up", 0, True, {"unknown": {"a"}}, 3),
        ("up", 0, True, {"unknown": set()}, 0),
        ("up", 0, True, {"by_hand": {"a"}, "unreachable": {"b"}}, 1),
        ("up", 1, True, {"failed": {"a"}, "refused": {"b"}}, 4),
        ("up", 1, True, {"refused": {"a"}}, 2),
        ("up", 1, True, {}, 4),
        ("up", 255, False, {}, 2),
        ("up", 130, False, {}, 130),
    ],
)
def test_the_worst_that_was_met_decides(verb, status, changes, found, expected):
    assert exit_status(verb, status, changes, found) == expected
