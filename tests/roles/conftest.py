"""What the tests of roles share: one machine with the role access on it, and everybody's keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.access_project import AccessProject
from tests.support.login_machine import Machine, new_key


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everybody's keys."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Machine]:
    functions = {"olga": "operator", "dara": "data-scientist", "axel": "auditor"}
    people = [
        {"name": name, "function": function, "keys": [new_key(keys / name)]} for name, function in functions.items()
    ]
    new_key(keys / "deploy")
    variables = {
        "people": people,
        "automation": {"user": "deploy", "principals": ["deploy"]},
        "ca_keys": [new_key(keys / "ca")],
        "break_glass": {"user": "glass"},
        "bootstrap_user": "admin",
    }
    with Machine(tmp_path_factory.mktemp("machine"), variables) as machine:
        bootstrap = new_key(keys / "admin")
        new_key(keys / "stranger")
        for name, line in (("admin", bootstrap), ("olga", (keys / "stranger.pub").read_text())):
            machine.root(
                f"install -d -o {name} -m 0700 /home/{name}/.ssh; echo '{line}' > /home/{name}/.ssh/authorized_keys"
            )
        yield machine


@pytest.fixture
def project(tmp_path: Path, machine: Machine, keys: Path) -> AccessProject:
    """A project whose only host answers at the machine, and where no account has a second factor."""
    made = AccessProject(tmp_path / "project", machine.variables, machine.port, keys, ("alpha",))
    made.fleet.with_suffix(".known_hosts").write_text(machine.pin())
    machine.root("rm -f /var/lib/totp/*")
    return made
