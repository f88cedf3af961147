"""The command that sends an image to a declared registry."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.cli.registry import VARIABLE
from rackwright.errors import ChangeRefused, SetupError
from rackwright.stack import load_stack
from rackwright.stack.registries import find, secret_of
from tests.support.registry import ACCOUNTS, PASSWORDS, READER, WRITER, servers, write_image
from tests.support.stack_settings import configure, encrypted_secrets, new_project

SETTINGS: dict[str, Any] = {
    "accounts": ACCOUNTS,
    "certificate": "-----BEGIN CERTIFICATE-----\nhost",
    "authority": "-----BEGIN CERTIFICATE-----\nauthority",
    "key": {"secret": "registry_tls"},
}


def host(number: int, **settings: Any) -> dict[str, Any]:
    roles = {"base": {}, **({"registry": {**SETTINGS, **settings}} if settings else {})}
    return {"os": "debian-12", "address": f"192.0.2.{number}", "identity": {"serial": f"S-{number}"}, "roles": roles}


def project(directory: Path, monkeypatch: pytest.MonkeyPatch, **hosts: dict[str, Any]) -> None:
    new_project(directory, monkeypatch, {"rack.yaml": json.dumps({"fleet": "rack", "hosts": hosts})})
    (directory / "Pulumi.yaml").touch()
    monkeypatch.setenv("RACKWRIGHT_LOG", str(directory / "log"))
    secrets = encrypted_secrets("registry_builder", "registry_nodes", "registry_tls")
    configure(directory, "rack", fleet="rack.yaml", target="rack", secrets=secrets)


def run(*arguments: str) -> str:
    """Return what the command prints."""
    argv = ("registry", "push", "rack", *arguments)
    done = CliRunner().invoke(app, argv, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_only_registry_needs_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch, alpha=host(1), beta=host(2, address="192.0.2.2", port=5005))
    registry = find(load_stack("rack", tmp_path), None)

    assert (registry.host, registry.url) == ("beta", "https://192.0.2.2:5005")
    assert registry.authority == SETTINGS["authority"]
    assert secret_of(registry, WRITER) == "registry_builder"
    with pytest.raises(ChangeRefused, match=f"got '{READER}'; accounts that write: {WRITER}"):
        secret_of(registry, READER)


def test_with_several_registries_or_none_the_host_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch, alpha=host(1, port=5000), beta=host(2, port=5000), gamma=host(3))
    stack = load_stack("rack", tmp_path)

    assert find(stack, "beta").host == "beta"
    for name, expected in (
        (None, "the fleet has 2 registries; hosts with role registry: alpha, beta"),
        ("gamma", "got 'gamma'"),
    ):
        with pytest.raises(ChangeRefused, match=expected):
            find(stack, name)


@pytest.mark.parametrize("name", ["digits", "Digits:1", "digits:", "../digits:1", "a//b:1", "a:1\n", "10.0.0.1:5000/a"])
def test_a_name_in_a_registry_has_its_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch, alpha=host(1, port=5000))
    with pytest.raises(ChangeRefused, match="NAME:TAG: got "):
        run("digits.tar", name, "--account", WRITER)


def test_it_prints_the_name_with_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The password is in the environment or in a file; neither it nor its place is in the operations log.
    """
    digest = write_image(tmp_path / "image.tar")
    monkeypatch.setattr("rackwright.endpoints.proxy.open_proxy", lambda *_: None)
    (tmp_path / "registry").mkdir()
    with servers(tmp_path / "registry") as running:
        settings = {"port": running.port, "authority": running.authority}
        project(tmp_path, monkeypatch, alpha=host(1, **settings))
        arguments = (str(tmp_path / "image.tar"), "vision/digits:1", "--account", WRITER)
        monkeypatch.setenv(VARIABLE, PASSWORDS[WRITER])
        name = f"127.0.0.1:{running.port}/vision/digits@{digest}"
        assert run(*arguments).splitlines()[-1] == name

        monkeypatch.setenv(VARIABLE, "another password")
        with pytest.raises(ChangeRefused, match=f"the registry refuses the account {WRITER}"):
            run(*arguments)
        (tmp_path / "password").write_text(f"{PASSWORDS[WRITER]}\n")
        document = json.loads(run(*arguments, "--password-file", str(tmp_path / "password"), "--json"))
        assert document == {"schema_version": 1, "image": name, "sent": 0, "present": 2}
        with pytest.raises(SetupError, match="No such file"):
            run(*arguments, "--password-file", str(tmp_path / "missing"))
    entries = b"".join(path.read_bytes() for path in (tmp_path / "log").rglob("*") if path.is_file())
    assert b"vision/digits:1" in entries and b"another password" not in entries
