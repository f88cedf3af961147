"""A fleet's people and tools for the tests of the role access, and the files that it writes for them."""

import subprocess
from pathlib import Path
from typing import Any

from rackwright.core.repository import Repository
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, AboutMirror, RoleSpec

ROOT = Path(__file__).parents[2]
REPOSITORY = Repository.load(ROOT, b"salt")
SOURCE = REPOSITORY.roles["access"]
SYSTEMS = ("debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04")


def public_key(number: int, comment: str = "") -> str:
    """Return a public key without a private key."""
    return f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{number:043d} {comment}".strip()


PEOPLE = (
    {"name": "olga", "function": "operator", "keys": [public_key(1, "olga@desk"), public_key(2, "olga@token")]},
    {"name": "dara", "function": "data-scientist", "keys": [public_key(3)], "shell": "/bin/sh"},
    {"name": "axel", "function": "auditor", "keys": [public_key(4)]},
)
WHOLE: dict[str, Any] = {
    "people": [*PEOPLE],
    "automation": {"user": "deploy", "principals": ["deploy", "deploy-rack"]},
    "ca_keys": [public_key(5, "the authority")],
    "revoked": [
        public_key(6, "lost with a laptop"),
        {"serial": 42, "ca": public_key(5)},
        {"serial": "1795601534231562274"},
    ],
    "break_glass": {"user": "glass"},
    "bootstrap_user": "admin",
    "control_addresses": ["192.0.2.9"],
}
"""Variables of the role with a value of each kind."""


def spec(variables: dict[str, Any], system: str = "debian-12", mirror: AboutMirror | None = None) -> RoleSpec:
    return RoleSpec(
        host="alpha",
        role="access",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os=system, profile="virtual"),
        fleet=AboutFleet(name="lab", mirror=mirror),
        variables=variables,
    )


def role_promises(variables: dict[str, Any], system: str = "debian-12", mirror: AboutMirror | None = None) -> Promises:
    return promises(spec(variables, system, mirror), REPOSITORY)


def texts(variables: dict[str, Any], system: str = "debian-12", mirror: AboutMirror | None = None) -> dict[str, str]:
    """Return every file of text that the role writes, by its path."""
    return {
        file.file: file.content
        for file in role_promises(variables, system, mirror).files
        if isinstance(file.content, str)
    }


def lay(variables: dict[str, Any], root: Path, system: str = "debian-12") -> None:
    """Write all files of the role below *root*, as on a host."""
    for file in role_promises(variables, system).files:
        path = root / file.file.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(file.content if isinstance(file.content, bytes) else file.content.encode())
        path.chmod(int(file.mode, 8))


def judge(*argv: str) -> str:
    """Return the error output of a program, or an empty text if it succeeds."""
    done = subprocess.run(argv, capture_output=True, text=True)
    return (done.stderr or done.stdout or f"it ended with {done.returncode}").strip() if done.returncode else ""
