"""Certificates as a person asks for them, against a real host: the login that they let in."""

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from rackwright.access import certificates
from rackwright.errors import ChangeRefused, DeclarationError, SetupError, StepFailed, UserError
from rackwright.hosts.pool import Hosts
from tests.support.access_project import AccessProject, declared
from tests.support.json_documents import check_printed
from tests.support.login_machine import lacks, new_key

RACKWRIGHT = Path(sys.executable).with_name("rackwright")
on_a_machine = pytest.mark.skipif(bool(lacks()), reason=lacks())


@on_a_machine
def test_a_certificate_lets_the_first_login_in(project, machine, keys):
    """
    It goes where the login looks for it.
    """
    issued = certificates.issue(project.stack, None, str(keys / "ca"), (), 15, ["127.0.0.0/8"])

    assert issued.path == project.directory / "tools-cert.pub"
    assert issued.principals == ("deploy",)
    options = ["-o", f"CertificateFile={issued.path}"]
    assert machine.ssh("deploy", keys / "deploy", options=options).stdout == "deploy\n"
    hosts = Hosts(project.stack.endpoints, b"salt")
    assert hosts.connection("alpha").login.name == "tools"
    hosts.close()


@pytest.fixture
def automated(tmp_path: Path) -> AccessProject:
    """A project with automation whose hosts need not be reached, and keys beside it."""
    made = tmp_path / "keys"
    made.mkdir()
    authority = new_key(made / "ca")
    for name in ("deploy", "admin", "other"):
        new_key(made / name)
    automation = {"user": "deploy", "principals": ["deploy", "deploy-rack"]}
    return AccessProject(tmp_path / "project", {"automation": automation, "ca_keys": [authority]}, 1, made, ("alpha",))


def shown(path: Path) -> str:
    return subprocess.run(["ssh-keygen", "-L", "-f", str(path)], capture_output=True, text=True, check=True).stdout


def test_a_certificate_says_for_whom_from_where_and_until_when(automated, tmp_path):
    key, authority = tmp_path / "keys/deploy", tmp_path / "keys/ca"
    argv = [RACKWRIGHT, "cert", "rack", "--ca", authority, "--key", key, "--principal", "deploy-rack", "--minutes", "5"]
    argv += ["--source-address", "192.0.2.7", "--source-address", "198.51.100.0/24"]
    done = subprocess.run(argv, cwd=automated.directory, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    path = tmp_path / "keys/deploy-cert.pub"
    first, second = done.stdout.splitlines()
    serial = re.fullmatch(rf"{path}: for deploy-rack, serial ([0-9]+)", first)[1]
    assert re.fullmatch(r"until [0-9]{4}-[0-9-]+ [0-9:]{8} UTC", second)
    report = shown(path)
    assert f"Serial: {serial}" in report and 'Key ID: "rack:' in report
    assert re.search(r"Principals: \n\s+deploy-rack\n\s+Critical", report)
    assert "source-address 192.0.2.7,198.51.100.0/24" in report

    again = subprocess.run([*argv, "--json"], cwd=automated.directory, capture_output=True, text=True, check=True)
    check_printed(["cert", "--json"], again.stdout)
    printed = json.loads(again.stdout)
    assert (printed["path"], printed["principals"]) == (str(path), ["deploy-rack"])
    assert datetime.fromisoformat(printed["valid_until"]).tzinfo is not None
    assert "Extensions: (none)" in report
    assert not list((tmp_path / "keys").glob(".rackwright-*"))


def test_one_that_is_issued_later_has_a_higher_serial(automated, tmp_path):
    key, authority = tmp_path / "keys/deploy.pub", str(tmp_path / "keys/ca")
    first, second = (certificates.issue(automated.stack, key, authority, (), 15, ()) for _ in range(2))

    assert first.serial < second.serial
    assert second.principals == ("deploy", "deploy-rack")


def test_an_authority_in_an_agent_signs_as_well(automated, tmp_path, monkeypatch):
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    [socket], [process] = re.findall(r"SSH_AUTH_SOCK=([^;]+)", started), re.findall(r"SSH_AGENT_PID=(\d+)", started)
    monkeypatch.setenv("SSH_AUTH_SOCK", socket)
    monkeypatch.setenv("SSH_AGENT_PID", process)
    try:
        key = tmp_path / "keys/deploy"
        subprocess.run(["ssh-add", "-q", str(tmp_path / "keys/other")], check=True)
        with pytest.raises(ChangeRefused, match="no host trusts agent with 1 key; an authority in"):
            certificates.issue(automated.stack, key, "agent", (), 15, ())
        subprocess.run(["ssh-add", "-q", str(tmp_path / "keys/ca")], check=True)
        issued = certificates.issue(automated.stack, key, "agent", (), 15, ())
    finally:
        subprocess.run(["ssh-agent", "-k"], capture_output=True, check=True)
    assert issued.path.is_file()


@pytest.mark.parametrize(
    ("key", "authority", "principals", "error", "expected"),
    [
        (
            "deploy",
            "other",
            (),
            ChangeRefused,
            "--ca: no host trusts {keys}/other; an authority in roles.access.ca_keys",
        ),
        ("deploy", "none", (), SetupError, "--ca: {keys}/none is not a file"),
        ("none", "ca", (), SetupError, "the public key {keys}/none.pub does not exist; the certificate signs this key"),
        (
            "deploy",
            "ca",
            ("deploi",),
            DeclarationError,
            "--principal: no host accepts the principal 'deploi'; one of deploy, deploy-rack",
        ),
    ],
)
def test_what_hosts_would_refuse_is_refused_here(automated, tmp_path, key, authority, principals, error, expected):
    keys = tmp_path / "keys"
    with pytest.raises(error) as caught:
        certificates.issue(automated.stack, keys / key, str(keys / authority), principals, 15, ())
    assert expected.format(keys=keys) in str(caught.value)


def test_an_authority_in_the_project_is_refused(automated, tmp_path):
    (automated.directory / "ca").write_text((tmp_path / "keys/ca").read_text())

    with pytest.raises(
        ChangeRefused, match="is in the project; a key outside of the project; every reader of the repository"
    ):
        certificates.issue(automated.stack, tmp_path / "keys/deploy", str(automated.directory / "ca"), (), 15, ())


def test_what_ssh_keygen_says_is_reported(automated, tmp_path):
    (tmp_path / "keys/ca").write_text("not a key\n")

    with pytest.raises(StepFailed, match="ssh-keygen: it failed"):
        certificates.issue(automated.stack, tmp_path / "keys/deploy", str(tmp_path / "keys/ca"), (), 15, ())


def test_without_automation_there_is_nothing_to_certify(tmp_path, keys):
    stack = declared(tmp_path, keys, bootstrap_user="admin").stack

    with pytest.raises(
        UserError, match=r"no host declares an account for the automation; .* Declare roles\.access\.automation"
    ):
        certificates.issue(stack, keys / "deploy", "agent", (), 15, ())
