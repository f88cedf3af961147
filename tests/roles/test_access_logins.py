"""Who gets in, with the files of the role access, by the real sshd, PAM and sudo of this computer, on loopback."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rackwright.errors import HostUnreachable
from rackwright.facts import probe
from rackwright.hosts import login as login_module
from rackwright.hosts.ansible import connection_variables
from rackwright.hosts.login import OnlyLooks
from rackwright.hosts.pool import Hosts
from rackwright.hosts.transport import Connection
from rackwright.schema.ssh import Endpoint, Login
from tests.support.access_role import REPOSITORY
from tests.support.login_machine import REFUSED, Machine, certificate, code, lacks, new_key, ping

pytestmark = pytest.mark.skipif(bool(lacks()), reason=lacks())


def test_a_key_alone_is_half_the_way(machine, keys):
    machine.enrol("olga")

    done = machine.ssh("olga", keys / "olga")

    assert done.returncode == REFUSED
    assert "Permission denied (keyboard-interactive)" in done.stderr


def test_key_and_code_are_accepted_and_each_code_once(machine, keys):
    secret = machine.enrol("olga")
    now = code(secret)

    assert machine.ssh("olga", keys / "olga", code=now).stdout == "olga\n"
    assert machine.ssh("olga", keys / "olga", code=now).returncode == REFUSED
    assert machine.root("stat -c '%a %U:%G' /var/lib/totp/olga; ls -A /var/lib/totp") == "400 root:root\nolga"


def test_a_wrong_code_does_not(machine, keys):
    secret = machine.enrol("olga")
    near = {code(secret, steps) for steps in range(-3, 4)}
    wrong = next(guess for guess in ("000000", "111111", "222222") if guess not in near)

    assert machine.ssh("olga", keys / "olga", code=wrong).returncode == REFUSED
    assert machine.ssh("olga", keys / "olga", code=code(secret)).stdout == "olga\n"


def test_an_emergency_code_lets_in_once(machine, keys):
    secret = machine.enrol("olga")

    assert machine.ssh("olga", keys / "olga", code=secret.emergency[0]).stdout == "olga\n"
    assert machine.ssh("olga", keys / "olga", code=secret.emergency[0]).returncode == REFUSED


def test_a_code_without_the_key_does_not(machine):
    done = machine.ssh("olga", None, code=code(machine.enrol("olga")))

    assert done.returncode == REFUSED
    assert "Permission denied (publickey)" in done.stderr


def test_a_person_without_a_secret_is_refused(machine, keys):
    machine.root("rm -f /var/lib/totp/dara")

    assert machine.ssh("dara", keys / "dara", code="123456").returncode == REFUSED


def test_a_key_in_a_persons_home_does_not_count(machine, keys):
    assert machine.ssh("olga", keys / "stranger", code=code(machine.enrol("olga"))).returncode == REFUSED


@pytest.mark.parametrize("user", ["workload", "glass", "root", "nobody"])
def test_other_people_are_refused(machine, keys, user):
    machine.root(f"cp /etc/ssh/authorized_keys.d/olga /etc/ssh/authorized_keys.d/{user}")

    done = machine.ssh(user, keys / "olga", code="123456")

    machine.root(f"rm /etc/ssh/authorized_keys.d/{user}")
    assert done.returncode == REFUSED


def test_the_login_that_was_there_before_gets_in_with_its_key_until_it_is_taken_out(machine, keys):
    assert machine.ssh("admin", keys / "admin", "sudo", "-n", "id", "-un").stdout == "root\n"

    machine.lay(bootstrap_user="")
    gone = machine.ssh("admin", keys / "admin")
    machine.lay(bootstrap_user="admin")

    assert gone.returncode == REFUSED


def test_a_certificate_lets_tools_in_and_the_bare_key_does_not(machine, keys):
    assert machine.ssh("deploy", keys / "deploy", options=certificate(keys, "good")).stdout == "deploy\n"
    assert machine.ssh(
        "deploy", keys / "deploy", "sudo", "-n", "id", "-un", options=certificate(keys, "good")
    ).stdout == ("root\n")

    assert machine.ssh("deploy", keys / "deploy").returncode == REFUSED


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("expired", {"until": "-5m"}),
        ("principal", {"principal": "olga"}),
        ("source", {"options": ("-O", "source-address=192.0.2.0/24")}),
    ],
)
def test_one_that_is_not_for_now_for_here_or_for_them_does_not(machine, keys, name, how):
    made = certificate(keys, name, *how.pop("options", ()), **how)

    assert machine.ssh("deploy", keys / "deploy", options=made).returncode == REFUSED


def test_one_for_this_source_does(machine, keys):
    made = certificate(keys, "here", "-O", "source-address=127.0.0.0/8")

    assert machine.ssh("deploy", keys / "deploy", options=made).stdout == "deploy\n"


def test_a_certificate_opens_no_persons_account(machine, keys):
    made = certificate(keys, "olgas", principal="olga,deploy")

    assert machine.ssh("olga", keys / "deploy", options=made, code=code(machine.enrol("olga"))).returncode == REFUSED


def test_tools_get_no_terminal_and_forward_nothing(machine, keys):
    made = certificate(keys, "bare", "-O", "permit-pty", "-O", "permit-port-forwarding")

    assert "PTY allocation request failed" in machine.ssh("deploy", keys / "deploy", options=[*made, "-tt"]).stderr
    forwarded = machine.ssh("deploy", keys / "deploy", options=[*made, "-W", f"127.0.0.1:{machine.port}"])
    assert "SSH-2.0" not in forwarded.stdout


def test_a_revoked_key_is_refused(machine, keys):
    def deploys(key: str) -> bool:
        return machine.ssh("deploy", keys / key, options=certificate(keys, f"of-{key}", key=key)).returncode == 0

    def revoke(*names: str) -> None:
        machine.lay(revoked=[(keys / f"{name}.pub").read_text().strip() for name in names])

    new_key(keys / "spare")
    assert deploys("deploy") and deploys("spare")
    revoke("deploy")
    assert deploys("spare") and not deploys("deploy"), "a key is revoked with every certificate for it"
    revoke("ca")
    assert not deploys("spare"), "an authority is revoked with all it signed"
    revoke("olga")
    assert machine.ssh("olga", keys / "olga", code=code(machine.enrol("olga"))).returncode == REFUSED
    revoke()
    assert deploys("deploy")


def test_an_authority_is_replaced_without_a_gap(machine, keys):
    """
    The new one is added, then the old one taken out; what either signed is good for as long as it stands there.
    """
    old, new = (keys / "ca.pub").read_text().strip(), new_key(keys / "next-ca")
    signed = [certificate(keys, f"by-{name}", authority=name) for name in ("ca", "next-ca")]

    def let_in(*authorities: str) -> list[bool]:
        machine.lay(ca_keys=list(authorities))
        return [machine.ssh("deploy", keys / "deploy", options=made).returncode == 0 for made in signed]

    try:
        assert let_in(old) == [True, False]
        assert let_in(old, new) == [True, True]
        assert let_in(new) == [False, True]
    finally:
        machine.lay(ca_keys=[old])


@pytest.mark.parametrize("of", ["any authority", "this authority", "another authority"])
def test_a_revoked_serial_is_refused_and_the_next_one_accepted(machine, keys, of):
    authority = {"this authority": "ca", "another authority": "stranger"}.get(of)
    revoked, following = certificate(keys, "s42", "-z", "42"), certificate(keys, "s43", "-z", "43")

    machine.lay(revoked=[{"serial": 42, **({"ca": (keys / f"{authority}.pub").read_text()} if authority else {})}])
    ended = [machine.ssh("deploy", keys / "deploy", options=made).returncode for made in (revoked, following)]
    machine.lay(revoked=[])

    assert ended == [0 if of == "another authority" else REFUSED, 0]


def test_without_the_list_of_revoked_keys_every_login_is_refused(machine, keys):
    machine.root("mv /etc/ssh/rackwright_revoked_keys /etc/ssh/away")
    refused = machine.ssh("admin", keys / "admin")
    machine.root("mv /etc/ssh/away /etc/ssh/rackwright_revoked_keys")

    assert refused.returncode == REFUSED


def test_ansible_goes_over_a_connection_that_a_person_opened(machine, keys, tmp_path):
    control = ["-o", f"ControlPath={tmp_path}/c"]
    opened = machine.ssh("olga", keys / "olga", options=[*control, "-M", "-f", "-N"], code=code(machine.enrol("olga")))
    assert opened.returncode == 0, opened.stderr

    answer = ping(
        machine.port, tmp_path, {"ansible_user": "olga", "ansible_ssh_common_args": " ".join(["-F none", *control])}
    )

    machine.ssh("olga", None, options=[*control, "-O", "exit"])
    assert '"ping": "pong"' in answer


def test_ansible_and_our_own_connections_get_in_with_a_certificate(machine, keys, tmp_path):
    certificate(keys, "both")
    pins = tmp_path / "known_hosts"
    pins.write_text(machine.pin())
    login = Login(name="tools", user="deploy", key=str(keys / "deploy"), certificate=f"{keys / 'both'}-cert.pub")
    endpoint = Endpoint("alpha", "127.0.0.1", machine.port, (login,), pins)

    connection = Connection(endpoint)
    assert connection.run(("id", "-un")).stdout == b"root\n"
    connection.close()
    assert '"ping": "pong"' in ping(machine.port, tmp_path, connection_variables(endpoint, login))


def test_an_auditor_gets_all_facts_and_nothing_else_of_roots(machine, keys):
    def axel(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return machine.ssh("axel", keys / "axel", *command, code=machine_code(machine), text=text)

    looked = axel("sudo", "-n", "/usr/local/sbin/rackwright-probe", text=f"{REPOSITORY.salt.hex()}\n")
    assert looked.returncode == 0, looked.stderr
    facts = probe.parse(looked.stdout.encode(), "alpha")
    user = facts.user("olga")
    assert user is not None and user.password == "locked", "which only root can read"
    assert facts.file("/etc/sudoers") is not None

    guessed = axel("sudo", "-n", "/usr/local/sbin/rackwright-probe", text="00\n")
    assert (guessed.returncode, guessed.stdout) == (1, "") and "not the key of the fleet" in guessed.stderr
    assert axel("sudo", "-n", "/usr/local/sbin/rackwright-probe", "--help").returncode == 1
    assert axel("sudo", "-n", "id").returncode == 1
    wrong = axel("sudo", "-n", "/usr/local/sbin/rackwright-probe", text='{"modules": []}')
    assert wrong.returncode == 1 and "takes a key" in wrong.stderr


def auditors(machine: Machine, keys: Path, pins: Path) -> Endpoint:
    pins.write_text(machine.pin())
    login = Login(name="auditor", user="axel", key=str(keys / "axel"), become="probe")
    return Endpoint("alpha", "127.0.0.1", machine.port, (login,), pins)


def test_an_audit_needs_no_more_than_an_auditor(machine, keys, tmp_path, monkeypatch):
    """
    What they get is what root gets, but for what changes by itself; whatever is more than a look is refused here.
    """
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(login_module, "CODES", login_module.Codes())
    monkeypatch.setattr(login_module, "getpass", lambda prompt: asked.append(prompt) or machine_code(machine))
    hosts = Hosts({"alpha": auditors(machine, keys, tmp_path / "pins")}, b"salt")
    admin = Login(name="admin", user="admin", key=str(keys / "admin"))
    of_admin = {"alpha": replace(auditors(machine, keys, tmp_path / "pins"), logins=(admin,))}
    root = Hosts(of_admin, b"salt", account_of_files=False)  # what takes long, and is compared with nothing here

    seen, whole = (each.facts("alpha") for each in (hosts, root))
    assert asked == ["Code of axel: "]
    assert seen.raw.keys() == whole.raw.keys()
    for part in ("salt_id", "users", "groups", "packages", "held", "covers", "boot_id", "kernel_parameters", "owners"):
        assert seen.raw[part] == whole.raw[part], part
    assert seen.raw["files"]["/etc/sudoers"] == whole.raw["files"]["/etc/sudoers"]
    for more in (
        lambda: hosts.texts("alpha", ["/etc/shadow"]),
        lambda: hosts.lease("alpha", "alpha/base", print).__enter__(),
    ):
        with pytest.raises(OnlyLooks, match="alpha: the login auditor is read-only; a login that becomes root"):
            more()
    hosts.close()
    root.close()


def test_a_code_is_asked_for_at_a_terminal_alone(machine, keys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.setattr(login_module, "CODES", login_module.Codes())

    with pytest.raises(HostUnreachable, match="the server requires a one-time code, and there is no terminal"):
        Connection(auditors(machine, keys, tmp_path / "pins"))


def test_a_wrong_code_is_reported_as_such(machine, keys, tmp_path, monkeypatch):
    secret = machine.enrol("axel")
    near = {code(secret, steps) for steps in range(-3, 4)}
    wrong = next(guess for guess in ("000000", "111111", "222222") if guess not in near)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(login_module, "CODES", login_module.Codes())
    monkeypatch.setattr(login_module, "getpass", lambda prompt: wrong)

    with pytest.raises(HostUnreachable, match="the server accepted the key, and refused the one-time code"):
        Connection(auditors(machine, keys, tmp_path / "pins"))


def machine_code(machine: Machine) -> str:
    return code(machine.enrol("axel"))


def test_operators_are_root_and_it_is_kept_what_they_saw(machine, keys):
    done = machine.ssh("olga", keys / "olga", "sudo", "-n", "id", "-un", code=code(machine.enrol("olga")))

    assert done.stdout == "root\n", done.stderr
    assert "root" in machine.root("find /var/log/sudo-io/olga -name ttyout -o -name stdout | xargs zcat -f")


def test_data_scientists_are_never_root(machine, keys):
    done = machine.ssh("dara", keys / "dara", "sudo", "-n", "id", code=code(machine.enrol("dara")))

    assert done.returncode == 1
    assert "password is required" in done.stderr
