"""SSH endpoints of the hosts of a rack, and of a twin."""

import json
import os
from pathlib import Path

from rackwright.errors import DeclarationError, Diagnostic, command
from rackwright.locations import relative_path
from rackwright.schema.host import Host
from rackwright.schema.ssh import Endpoint, Login, parse_jump


def rack_endpoint(name: str, host: Host, pins: Path) -> Endpoint:
    logins = tuple(_absolute(login, pins.parent) for login in host.ssh.logins)
    jump = None if host.ssh.jump is None else _jump(name, host.ssh.jump, logins, pins)
    return Endpoint(name, host.address, host.ssh.port, logins, pins, jump)


def _jump(name: str, text: str, logins: tuple[Login, ...], pins: Path) -> Endpoint:
    """Return the endpoint of the jump host: the same logins without sudo, with its own user if *text* names one."""
    user, address, port = parse_jump(text)
    jump_logins = tuple(login.model_copy(update={"user": user or login.user, "become": False}) for login in logins)
    return Endpoint(f"{name} (jump)", address, port, jump_logins, pins)


def _absolute(login: Login, base: Path) -> Login:
    def absolute(path: str | None) -> str | None:
        # unlike Path.expanduser, os.path's keeps the ~ of an unknown user, which the login then reports
        return None if path is None else str(base / os.path.expanduser(path))  # noqa: PTH111

    return login.model_copy(update={"key": absolute(login.key), "certificate": absolute(login.certificate)})


def twin_endpoints(directory: Path) -> dict[str, Endpoint]:
    """Return the endpoints of the twin's hosts; empty before its first start."""
    path = directory / "endpoints.json"
    try:
        entries = json.loads(path.read_text())["hosts"]
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError):
        problem, expected = (
            f"got {path.stat().st_size} bytes that list no hosts",
            "the start of the twin writes this file",
        )
        help = f"Free space on that disk if it is full, then run {command('rackwright twin start {}', directory.name)}"
        raise DeclarationError(Diagnostic(f"{relative_path(path)}:1", problem, expected, help)) from None
    return {
        host: Endpoint(
            host,
            entry["address"],
            entry["port"],
            (Login(name="twin", user=entry["user"], key=entry["key"]),),
            directory / "known_hosts",
        )
        for host, entry in entries.items()
    }
