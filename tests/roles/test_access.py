"""The role access: what it promises for several fleets, that programs take its files, and what it does not take."""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.contract import Within
from rackwright.facts import probe
from rackwright.facts.facts import FORMAT
from rackwright.facts.program import program
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutMirror
from tests.support.access_role import (
    PEOPLE,
    REPOSITORY,
    SOURCE,
    SYSTEMS,
    WHOLE,
    judge,
    lay,
    public_key,
    role_promises,
    texts,
)
from tests.support.login_machine import PATH

FLEETS: dict[str, dict[str, Any]] = {
    "everything": WHOLE,
    "people alone": {"people": [PEOPLE[0]], "workload": ""},
    "without codes": {"people": [*PEOPLE], "totp": False, "audit": False, "sudo_log": False},
    "tools alone": {"automation": {"user": "deploy"}, "ca_keys": [public_key(5)], "ports": [22, 2222]},
    "the first time": {"bootstrap_user": "root", "allow_tcp_forwarding": True},
}
SSHD = shutil.which("sshd", path=PATH)
VISUDO = shutil.which("visudo", path=PATH)
CONFIG = "/etc/ssh/sshd_config.d/10-rackwright.conf"


@pytest.fixture(params=FLEETS.values(), ids=FLEETS)
def fleet(request: pytest.FixtureRequest) -> dict[str, Any]:
    return copy.deepcopy(request.param)


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- what programs say


@pytest.mark.skipif(SSHD is None, reason="needs openssh-server")
def test_sshd_takes_its_configuration(fleet, tmp_path):
    config = tmp_path / "sshd_config"
    key = tmp_path / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    config.write_text(f"HostKey {key}\n{texts(fleet)[CONFIG]}")

    assert judge(str(SSHD), "-t", "-f", str(config)) == ""


@pytest.mark.skipif(SSHD is None, reason="needs openssh-server")
@pytest.mark.parametrize(
    ("port", "user", "forwarding"),
    [
        (9417, "deploy", ["allowtcpforwarding remote", "permitlisten 127.0.0.1:9417"]),
        (9417, "admin", ["allowtcpforwarding remote", "permitlisten 127.0.0.1:9417"]),
        (9417, "olga", ["allowtcpforwarding no", "permitlisten any"]),
        (None, "deploy", ["allowtcpforwarding no", "permitlisten any"]),
    ],
)
def test_only_the_changer_of_a_host_may_bring_packages(tmp_path, port, user, forwarding):
    """
    The host listens on that port for them, and on no other.
    """
    mirror = AboutMirror(url="http://mirror.example/", key="", port=port)
    config, key = tmp_path / "sshd_config", tmp_path / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    config.write_text(f"HostKey {key}\n{texts(WHOLE, mirror=mirror)[CONFIG]}")

    argv = [str(SSHD), "-T", "-f", str(config), "-C", f"user={user},host=h,addr=192.0.2.1"]
    output = subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    assert (
        sorted(line for line in output.splitlines() if line.startswith(("allowtcpforwarding ", "permitlisten ")))
        == forwarding
    )


@pytest.mark.skipif(VISUDO is None, reason="needs sudo")
def test_sudo_takes_its_files(fleet, tmp_path):
    lay(fleet, tmp_path)
    files = [tmp_path / "etc/sudoers", *sorted((tmp_path / "etc/sudoers.d").iterdir())]

    assert len(files) > 2
    assert [judge(str(VISUDO), "-c", "-q", "-f", str(path)) for path in files] == [""] * len(files)


def test_sudo_reads_each_of_its_files(fleet):
    """
    It passes over names with a dot, and those that end with a tilde.
    """
    names = [Path(path).name for path in texts(fleet) if path.startswith("/etc/sudoers.d/")]

    assert names and not [name for name in names if "." in name or name.endswith("~")]


def test_keys_of_people_are_taken_by_ssh_keygen(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    people = [{"name": "olga", "function": "operator", "keys": [(tmp_path / "key.pub").read_text().strip()]}]
    lay({"people": people}, tmp_path)

    assert judge("ssh-keygen", "-l", "-f", str(tmp_path / "etc/ssh/authorized_keys.d/olga")) == ""


# --- what it promises


def test_its_claims_can_be_computed_for_every_system(fleet, system):
    things = [(entry.thing, name) for entry in role_promises(fleet, system).entries for name in entry.want(REPOSITORY)]

    assert len(things) == len(set(things)), "nothing is promised twice"


def test_its_file_counts_before_what_an_image_brings():
    names = [Path(path).name for path in texts(WHOLE) if path.startswith("/etc/ssh/sshd_config.d/")]

    assert sorted([*names, "50-cloud-init.conf", "10-twin.conf"])[0] == names[0]
    first = next(line for line in texts(WHOLE)["/etc/ssh/sshd_config"].splitlines() if line[:1] not in ("#", ""))
    assert first == "Include /etc/ssh/sshd_config.d/*.conf"


def test_ubuntu_24_04_lets_systemd_listen():
    units = {system: {entry.thing for entry in role_promises(WHOLE, system).entries} for system in SYSTEMS}

    assert [system for system in SYSTEMS if "unit:ssh.socket" in units[system]] == ["ubuntu-24.04"]
    assert [system for system in SYSTEMS if "unit:ssh.service" not in units[system]] == ["ubuntu-24.04"]


def test_only_an_sshd_that_knows_penalties_gets_the_spared_addresses():
    spared = [system for system in SYSTEMS if "PerSourcePenaltyExemptList 192.0.2.9" in texts(WHOLE, system)[CONFIG]]

    assert spared == ["debian-13"]


def test_a_process_in_a_directory_is_seen():
    only = {
        entry.thing.partition(":")[2]: entry.want(REPOSITORY)["names"]
        for entry in role_promises(WHOLE).entries
        if "names" in entry.want(REPOSITORY)
    }

    assert only["/etc/ssh/authorized_keys.d"] == Within(("axel", "dara", "olga"))
    assert only["/etc/ssh/sshd_config.d"] == Within(("10-rackwright.conf",))
    for folder, names in only.items():
        assert isinstance(names, Within)
        written = {path.rpartition("/")[2] for path in texts(WHOLE) if path.rpartition("/")[0] == folder}
        assert set(names.values) - {"README"} == written


def test_an_undeclared_purpose_gives_no_rights_of_root():
    sudoers = {path for path in texts({"people": [*PEOPLE]}) if path.startswith("/etc/sudoers.d/")}

    assert sudoers == {"/etc/sudoers.d/10-rackwright-operator", "/etc/sudoers.d/10-rackwright-auditor"}


def test_secrets_of_people_are_no_content_of_ours():
    assert not [path for path in texts(WHOLE) if path.startswith("/var/lib/totp")]
    assert "directory:/var/lib/totp" in {entry.thing for entry in role_promises(WHOLE).entries}


def test_the_password_of_the_console_is_a_persons_matter():
    """A container has no console, so that its hosts cannot show it."""
    account, console = [entry for entry in role_promises(WHOLE).entries if entry.thing == "user:glass"]

    assert (console.by_hand, console.severity, console.claim(REPOSITORY).scope) == (True, "warning", "kernel")
    assert console.want(REPOSITORY) == {"password": "set"}
    assert (account.by_hand, account.claim(REPOSITORY).scope) == (False, "host")
    assert "DenyUsers" not in texts(WHOLE)[CONFIG]
    [allowed] = re.findall(r"^AllowUsers (.+)$", texts(WHOLE)[CONFIG], re.MULTILINE)
    assert allowed.split() == ["olga", "dara", "axel", "deploy", "admin"]


# --- the auditor's look


def test_the_program_has_the_probes_modules_as_they_are():
    text = program(REPOSITORY.salt)
    modules: dict[str, str] = {}
    beginning = text.index("MODULES = {")
    exec(text[beginning : text.index("\n}\n\nsys.modules", beginning) + 3], {}, found := {})
    modules = found["MODULES"]

    assert tuple(modules.items()) == probe.modules()
    assert f'"format": {FORMAT}' in text


@pytest.mark.parametrize(
    ("argv", "text", "expected"),
    [
        (["x"], "5a17", "takes no arguments"),
        ([], "", "takes a key of 2 to 64 hex digits"),
        ([], "5a1", "takes a key of 2 to 64 hex digits"),
        ([], "5a" * 33, "takes a key of 2 to 64 hex digits"),
        ([], '{"salt": "5a", "modules": [["x", "import os"]]}', "takes a key of 2 to 64 hex digits"),
    ],
)
def test_it_takes_a_key_of_digests_and_nothing_else(tmp_path, argv, text, expected):
    path = tmp_path / "probe"
    path.write_text(program(b"\x5a\x17"))

    done = subprocess.run(["python3", "-IS", str(path), *argv], input=text, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (1, "")
    assert expected in done.stderr


@pytest.mark.parametrize("key", ["00", "5a", "5a1700", "6b17", "00" * 32])
def test_another_key_than_the_fleets_gets_no_digest(tmp_path, key):
    path = tmp_path / "probe"
    path.write_text(program(b"\x5a\x17"))

    done = subprocess.run(["python3", "-IS", str(path)], input=key, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (1, "")
    assert "not the key of the fleet that installed this probe" in done.stderr and "Traceback" not in done.stderr


def test_the_program_shows_its_reader_no_key():
    assert b"\x5a\x17".hex() * 8 not in program(b"\x5a\x17" * 8)


def test_it_prints_facts_with_digests_by_that_key(tmp_path):
    """
    Without the account of all files, which takes most of the time; test_access_logins.py runs the program as it is.
    """
    path = tmp_path / "probe"
    before, call, after = program(b"\x5a\x17").rpartition("module.main({")
    assert call
    path.write_text(f'{before}{call}"account_of_files": False, {after}')

    done = subprocess.run(["python3", "-IS", "-Xutf8", str(path)], input=b"5a17\n", capture_output=True, check=True)

    facts = probe.parse(done.stdout, "alpha")
    assert facts.raw["salt_id"] == __import__("rackwright.facts.digest", fromlist=["x"]).salt_id(b"\x5a\x17")
    assert facts.file("/etc/passwd") is not None


# --- what it does not take


def refused(**changes: Any) -> list[str]:
    given = {**copy.deepcopy(WHOLE), **changes}
    if wrong := [str(problem) for problem in SOURCE.problems("debian-12", given)]:
        return wrong
    return [str(problem) for problem in refusals(SOURCE, "debian-12", given)]


def test_what_is_sound_is_taken(fleet):
    assert list(SOURCE.problems("debian-12", fleet)) == []
    assert list(refusals(SOURCE, "debian-12", fleet)) == []


OLGA = PEOPLE[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"people": [*PEOPLE[1:]], "automation": None, "bootstrap_user": ""},
            "got no account that can log in and become root; every undeclared login is shut out.",
        ),
        ({"people": [OLGA, {**PEOPLE[1], "name": "olga"}]}, "got the account olga more than once"),
        ({"bootstrap_user": "deploy"}, "got the account deploy more than once"),
        ({"workload": "olga"}, "got the account olga more than once"),
        ({"break_glass": {"user": "root"}}, "got the account root; logs cannot name the person who uses root's key."),
        ({"people": [{**OLGA, "name": "Olga"}]}, 'got the account "Olga"; a name has small letters'),
        ({"people": [{**OLGA, "name": "olga ALL=(ALL) ALL"}]}, "a name has small letters"),
        ({"bootstrap_user": "-x"}, 'got the account "-x"; a name has small letters'),
        ({"people": [{**OLGA, "keys": []}]}, "got no key of olga; people log in with a key."),
        ({"people": [{**OLGA, "shell": "bash"}]}, "got the shell bash of olga; a shell is an absolute path."),
        ({"people": [{**OLGA, "keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]}]}, 'got "-----BEGIN O"… for a key;'),
        ({"people": [{**OLGA, "keys": [f"command=\"x\" {public_key(1)}"]}]}, "… for a key; a key is one line: one"),
        ({"people": [{**OLGA, "keys": [f"{public_key(1)}\n{public_key(2)}"]}]}, "got the character U+000A"),
        ({"revoked": ["SHA256:abc"]}, 'got "SHA256:abc"… for a key;'),
        ({"revoked": [{"serial": 1, "ca": "SHA256:abc"}]}, 'got "SHA256:abc"… for a key;'),
        ({"revoked": [{"ca": public_key(7)}]}, "an entry is a public key or a certificate."),
        ({"revoked": [{"serial": 1, "key": "x"}]}, "an entry is a public key or a certificate."),
        ({"revoked": [{"serial": 1, "ca": 2}]}, "an entry is a public key or a certificate."),
        ({"revoked": [42]}, "got 42; an entry is a public key or a certificate."),
        ({"revoked": [{"serial": 0}]}, "got the serial 0; a serial is a whole number from 1"),
        ({"revoked": [{"serial": -1}]}, "got the serial -1; a serial is a whole number from 1"),
        ({"revoked": [{"serial": True}]}, "got the serial True; a serial is a whole number from 1"),
        ({"revoked": [{"serial": 1.5}]}, "got the serial 1.5; a serial is a whole number from 1"),
        ({"revoked": [{"serial": 1795601534231562274}]}, "in quotes if it has more than 15 digits."),
        ({"revoked": [{"serial": "18446744073709551616"}]}, "is a whole number from 1 to 18446744073709551615"),
        ({"revoked": [{"serial": "x"}]}, "got the serial x; a serial is a whole number from 1"),
        ({"ca_keys": ["ssh-ed25519"]}, 'got "ssh-ed25519"… for a key;'),
        ({"people": [{**OLGA, "keys": ["ssh-ed25519 AAAA… olga"]}]}, 'got "ssh-ed25519 "… for a key;'),
        ({"people": [{**OLGA, "keys": [public_key(1)[:-4]]}]}, 'got "ssh-ed25519 "… for a key;'),
        ({"people": [{**OLGA, "keys": [public_key(1).replace("ed25519", "rsa", 1)]}]}, '"ssh-rsa AAAA"… for a key;'),
        (
            {"people": [OLGA, {**PEOPLE[1], "keys": [public_key(1, "another")]}]},
            'more than once; a key identifies one person.',
        ),
        ({"revoked": [public_key(1, "x")]}, "which is also declared as valid; a key is either valid or revoked."),
        ({"revoked": [public_key(5)]}, "which is also declared as valid; a key is either valid or revoked."),
        ({"ca_keys": []}, "got automation without ca_keys; automation needs ca_keys. Declare ca_keys."),
        ({"automation": {"user": "deploy", "principals": ["a b"]}}, "a principal is one word."),
        ({"ports": [0]}, "got 0; sshd listens on ports from 1 to 65535."),
        ({"ports": []}, "got none; sshd listens on ports from 1 to 65535."),
        ({"totp_issuer": "a:b"}, 'got "a:b"; an issuer has no colon, because authenticators add one.'),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(changes, expected):
    problems = refused(**changes)

    assert [problem for problem in problems if expected in problem], problems


@pytest.mark.skipif(SSHD is None, reason="needs ssh-keygen")
@pytest.mark.parametrize(
    ("sort", "bits"), [("ed25519", 256), ("rsa", 2048), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)]
)
def test_each_sort_of_key_is_taken(sort, bits, tmp_path):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", sort, "-b", str(bits), "-N", "", "-f", path], check=True)

    assert refused(people=[{**OLGA, "keys": [path.with_suffix(".pub").read_text().strip()]}]) == []


@pytest.mark.parametrize(
    "key",
    [
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAI" + "A" * 43 + "AAAABHNzaDo= olga",
        "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAI" + "A" * 96,
    ],
)
def test_a_key_in_hardware_is_taken(key):
    assert refused(people=[{**OLGA, "keys": [key]}]) == []


def test_no_more_than_the_beginning_of_a_key_is_reported():
    private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE"

    assert "b3Blbn" not in "\n".join(refused(people=[{**OLGA, "keys": [private]}]))


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        ({"peopel": []}, ("peopel",), "Write people."),
        (
            {"people": [{**OLGA, "function": "admin"}]},
            ("people", 0, "function"),
            "got 'admin'; one of operator, data-scientist, auditor",
        ),
        (
            {"people": [{"name": "olga", "function": "operator"}]},
            ("people", 0),
            "got no keys; at least name, function, keys. Add keys.",
        ),
        (
            {"people": [{**OLGA, "password": "x"}]},
            ("people", 0, "password"),
            "got an unknown key; one of name, function, keys, shell",
        ),
        ({"totp": "sometimes"}, ("totp",), "got 'sometimes'; true or false"),
        ({"automation": {"principals": ["x"]}}, ("automation",), "got no user; at least user. Add user."),
        ({"ports": ["ssh"]}, ("ports", 0), "got 'ssh'; a whole number"),
    ],
)
def test_what_is_of_another_type_is_reported_at_its_key(changes, path, expected):
    problems = [*SOURCE.problems("debian-12", {**WHOLE, **changes})]

    assert [problem for problem in problems if problem.path == path and expected in str(problem)], problems


def test_automation_without_an_authority_is_reported():
    [problem] = SOURCE.problems("debian-12", {"automation": {"user": "deploy"}})

    assert "ca_keys" in problem.diagnostic.expected
