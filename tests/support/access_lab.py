"""A host with the role access, on which nothing differs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.access_rack import access, fleet
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log

HOST, LOGIN = "alpha", "rackwright"
ROLE = f"{HOST}/access"


@contextmanager
def access_lab(log: Log) -> Iterator[Lab]:
    """A host with role access, on which nothing differs: people need no code there."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    directory = log.empty_directory()
    variables = {**access(Path(directory, "keys")), "totp": False, "audit": False}
    declared = fleet([HOST], {"base": {"security_updates": False}, "access": variables})
    with Lab(directory / "project", declared, log, containers=[HOST]) as lab:
        lab.start()
        log("making the host")
        lab.up()
        need(lab.audit_differences(status=0) == set(), "something differs on a new host")
        yield lab
