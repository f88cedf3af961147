"""Roles whose units and accounts a container of a twin cannot show in full: all that it shows is as declared."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.access_rack import fleet
from tests.support.lab import Lab
from tests.support.log import Log

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
]
HOST = "alpha"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A container with an engine for containers, and an account for the console, whose password no test sets."""
    roles: dict[str, Any] = {
        "base": {"security_updates": False},
        "access": {"bootstrap_user": "rackwright", "break_glass": {"user": "glass"}},
        "container_runtime": {},
    }
    directory = tmp_path_factory.mktemp("clean") / "project"
    with Lab(directory, fleet([HOST], roles), Log("clean-container"), containers=[HOST], mirrors=True) as lab:
        lab.start()
        yield lab


def test_a_change_of_a_container_ends_clean(lab: Lab) -> None:
    first = lab.up(status=0)
    report = lab.audit(status=0)
    again = lab.up(status=0)

    assert not [each for each in report["findings"] if each["severity"] != "notice"], report["findings"]
    assert "by hand" not in first.stdout + first.stderr
    assert "unchanged" in again.stdout + again.stderr
