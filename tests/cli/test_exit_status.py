"""The exit status of preview and up, which distinguishes what pulumi's single status does not."""

import subprocess
from types import SimpleNamespace
from typing import get_args

import pytest

from rackwright import process_tree
from rackwright.cli import project, state
from rackwright.cli.killed import killed_error
from rackwright.cli.pulumi import exit_status
from rackwright.errors import StepFailed
from rackwright.exit_status import gravest
from rackwright.provider.outcomes import STATUSES, Outcome


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
        ("up", 1, True, {"unreachable": {"a"}}, 3),
        ("up", 1, True, {"unreachable": {"a"}, "halted": {"b"}}, 3),
        ("up", 1, True, {"unreachable": {"a"}, "by_hand": {"b"}}, 1),
        ("up", 1, True, {"unreachable": {"a"}, "refused": {"b"}}, 2),
        ("up", 1, True, {"unreachable": {"a"}, "failed": {"b"}}, 4),
        ("up", 1, True, {"unknown": {"a"}}, 4),
        ("up", 255, False, {}, 2),
        ("up", 130, False, {}, 130),
        ("up", -2, False, {}, 130),
        ("up", -9, False, {}, 4),
        ("preview", -9, False, {"unreachable": {"a"}}, 4),
        ("preview", 0, False, {"unreachable": {"a"}}, 3),
    ],
)
def test_the_worst_that_was_met_decides(verb, status, changes, found, expected):
    assert exit_status(verb, status, changes, found) == expected


def test_every_outcome_has_a_status():
    assert STATUSES.keys() == {*get_args(Outcome)}


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [((), 0), ((0, 3), 3), ((3, 1), 1), ((3, 2, 1), 2), ((3, 2, 1, 4), 4)],
)
def test_a_host_that_was_not_reached_counts_least(statuses, expected):
    assert gravest(statuses) == expected


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (15, "SIGTERM"), (99, "signal 99")])
def test_a_killed_pulumi_is_named_with_its_signal(number, name):
    error = killed_error(["pulumi", "up"], number, "lab")

    assert str(error).startswith(f"stack lab: `pulumi up` was killed by {name};") and error.exit_status == 4


@pytest.mark.parametrize(("module", "runs"), [(project, subprocess), (state, process_tree)])
def test_a_killed_pulumi_is_a_failed_step_of_every_command(module, runs, monkeypatch, tmp_path):
    """
    It is no wrong passphrase, and no failure with a status.
    """
    killed = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(runs, "run", lambda *arguments, **options: killed)
    monkeypatch.setattr(project, "environment", lambda stack: {})
    monkeypatch.setattr(project, "directory", lambda: tmp_path)
    state._environment.cache_clear()
    stack = SimpleNamespace(name="lab", project=tmp_path, unknown_secrets={"a"})

    with pytest.raises(StepFailed, match="was killed by SIGKILL") as caught:
        project.secrets(stack) if module is project else state.urns("lab")

    assert caught.value.exit_status == 4
