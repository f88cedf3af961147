"""Enrolment as a person types it, against a real host: what they give lets in."""

import base64
import contextlib
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pexpect
import pytest

from rackwright.access import enrolment
from rackwright.access.enrolment import Enrolment, PendingEnrolment
from rackwright.access.totp import OPTIONS, Secret
from rackwright.errors import ChangeRefused, DeclarationError, SetupError
from rackwright.facts.digest import digest
from rackwright.stack import Stack
from tests.support.access_project import AccessProject, declared
from tests.support.access_role import public_key
from tests.support.expect import eventually
from tests.support.login_machine import REFUSED, code, enrol_in_terminal, lacks
from tests.support.signals import as_in_a_terminal

RACKWRIGHT = Path(sys.executable).with_name("rackwright")
on_a_machine = pytest.mark.skipif(bool(lacks()), reason=lacks())


def quiet(text: str) -> None:
    pass


def enrol(stack: Stack, replace: bool = False) -> tuple[PendingEnrolment, Enrolment]:
    """Enrol olga, who has the secret as soon as it is prepared."""
    pending = enrolment.prepare(stack, "olga", replace)
    return pending, enrolment.activate(stack, pending, quiet)


# --- the second factor


@on_a_machine
def test_what_is_shown_lets_in_and_is_seen_nowhere_else(project, machine, keys):
    """
    It is neither on a command line nor in other output, nor in the project; the file is root's.
    """
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(process.read_bytes().decode(errors="replace").replace("\0", " "))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status, text = enrol_in_terminal(str(RACKWRIGHT), ["enrol", "rack", "olga"], project.directory)
    over.set()
    watcher.join()

    assert status == 0, text
    [key] = re.findall(r"type ([A-Z2-7]{32})", text)
    [emergency] = re.findall(r"good once: ([0-9 ]+)", text)
    assert "█" in text or "▀" in text, "a QR code"
    assert machine.ssh("olga", keys / "olga", code=code(Secret(key, ()))).stdout == "olga\n"
    assert machine.ssh("olga", keys / "olga", code=emergency.split()[0]).stdout == "olga\n"
    assert machine.root("stat -c '%a %U:%G' /var/lib/totp /var/lib/totp/olga") == "700 root:root\n400 root:root"
    assert any("python3 -I -S" in line for line in seen)
    assert not [line for line in seen if key in line]
    files = [path for path in project.directory.rglob("*") if path.is_file()]
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert (
        machine.root(f"grep -rl {key} /var/lib /var/log /run /tmp/.[!.]* 2>/dev/null || true") == "/var/lib/totp/olga"
    )


@on_a_machine
def test_a_secret_that_is_there_is_not_replaced_unasked(project, machine, keys):
    first, _ = enrol(project.stack)
    with pytest.raises(ChangeRefused, match=r"olga already has a secret on alpha\. Pass --replace"):
        enrolment.prepare(project.stack, "olga", False)
    second, _ = enrol(project.stack, replace=True)

    assert first.is_new and second.is_new
    assert machine.ssh("olga", keys / "olga", code=code(first.secret)).returncode == REFUSED
    assert machine.ssh("olga", keys / "olga", code=code(second.secret)).stdout == "olga\n"


@on_a_machine
def test_a_host_that_was_added_is_given_the_secret_that_the_others_have(tmp_path, machine, keys, monkeypatch):
    """
    Told by what is there: the first host has it, the second has not, though both answer at one place here.
    """
    both = AccessProject(tmp_path / "project", machine.variables, machine.port, keys, ("alpha", "beta"))
    both.fleet.with_suffix(".known_hosts").write_text(machine.pin())
    secret = machine.enrol("olga")
    has_secret = enrolment._has_secret
    monkeypatch.setattr(
        enrolment, "_has_secret", lambda hosts, host, name: host == "alpha" and has_secret(hosts, host, name)
    )

    pending, enrolled = enrol(both.stack)

    assert not pending.is_new and enrolled.hosts == ("beta",)
    assert machine.ssh("olga", keys / "olga", code=code(secret)).stdout == "olga\n"


STOPS = {"interrupted": signal.SIGINT, "ended": signal.SIGTERM, "hung-up": signal.SIGHUP, "no-code": None}


@on_a_machine
@pytest.mark.parametrize(
    ("stop", "replace"),
    [*((each, False) for each in STOPS.values()), (signal.SIGINT, True)],
    ids=[*STOPS, "replacement-interrupted"],
)
def test_a_secret_that_was_not_confirmed_is_on_no_host(project, machine, keys, stop, replace):
    """A person whom the command leaves before they have stored the secret logs in as before."""
    before = machine.enrol("olga") if replace else None
    options = ["--replace"] if replace else []
    terminal = pexpect.spawn(
        str(RACKWRIGHT),
        ["enrol", "rack", "olga", *options],
        timeout=120,
        cwd=project.directory,
        encoding="utf-8",
        preexec_fn=as_in_a_terminal,
    )
    terminal.expect_exact("nothing to stop:")
    [key] = re.findall(r"type ([A-Z2-7]{32})", terminal.before)
    if stop is None:
        terminal.sendline(wrong_code(Secret(key, ())))
        terminal.expect_exact("That is no code of this secret at")
        terminal.expect_exact("nothing to stop:")
        terminal.sendline("")
    else:
        # Python sees a signal only later that arrives right before it waits for a key
        eventually(lambda: _waits_for_a_key(terminal.pid), "the command waits for a key", 60)
        terminal.kill(stop)
    text = terminal.read()
    terminal.wait()

    assert terminal.exitstatus == {None: 2, signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}[stop], text
    assert "no host was changed" in text or stop is not None
    assert machine.root("ls /var/lib/totp") == ("olga" if replace else "")
    if before:
        assert machine.ssh("olga", keys / "olga", code=code(before)).stdout == "olga\n"


def _waits_for_a_key(process: int) -> bool:
    """Return whether a process is in the system call read() of its standard input. Source: proc_pid_syscall(5)."""
    number, _, arguments = Path(f"/proc/{process}/syscall").read_text().partition(" ")
    return number in ("0", "63") and arguments.startswith("0x0 ")  # x86-64, and ARM


def wrong_code(secret: Secret) -> str:
    """Return six digits that are a code of *secret* neither now nor within two minutes."""
    near = {code(secret, steps) for steps in range(-4, 5)}
    return next(each for each in ("123456", *(f"{number:06d}" for number in range(10))) if each not in near)


@on_a_machine
def test_a_secret_that_a_host_got_while_the_person_typed_is_not_overwritten(project, machine):
    pending = enrolment.prepare(project.stack, "olga", False)
    machine.enrol("olga")
    before = machine.root("cat /var/lib/totp/olga")

    enrolled = enrolment.activate(project.stack, pending, quiet)

    assert enrolled.hosts == () and "got another secret while this command waited" in str(enrolled.failures["alpha"])
    assert machine.root("cat /var/lib/totp/olga") == before


class Hosts:
    """Hosts that have these files, by name."""

    def __init__(self, **texts: str | None) -> None:
        self._texts = texts

    def texts(self, host: str, paths: list[str]) -> dict[str, str | None]:
        return dict.fromkeys(paths, self._texts[host])


KEY = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def test_only_the_key_of_a_host_reaches_the_others():
    """
    A host that was taken over adds a code of its own, and drops the limit of tries.
    """
    taken_over = f'{KEY}\n" WINDOW_SIZE 100\n" TOTP_AUTH\n12345678\n'
    passed_on = enrolment._common_secret(Hosts(alpha=taken_over), ["alpha"], "olga").text

    assert passed_on == "\n".join([KEY, *(f'" {option}' for option in OPTIONS), ""])


@pytest.mark.parametrize("text", [None, "", "\n", KEY[:25], KEY.lower(), f"{KEY}!", f" {KEY}", f'" TOTP_AUTH\n{KEY}\n'])
def test_a_file_without_a_key_is_refused_with_its_host(text):
    with pytest.raises(ChangeRefused, match=r"user olga: the first line of /var/lib/totp/olga on beta is not a key;"):
        enrolment._common_secret(Hosts(alpha=f"{KEY}\n", beta=text), ["alpha", "beta"], "olga")


def test_hosts_with_different_keys_are_refused_by_their_names():
    other = KEY.replace("J", "K")
    hosts = Hosts(alpha=f"{KEY}\n", beta=f"{other}\n", gamma=f'{KEY}\n" TOTP_AUTH\n')
    with pytest.raises(
        ChangeRefused, match=r"hosts have different secrets of olga: alpha, gamma / beta; one secret for each person"
    ):
        enrolment._common_secret(hosts, ["alpha", "beta", "gamma"], "olga")


class Reached(Hosts):
    """Hosts in the place of those that commands reach."""

    def exists(self, host: str, path: str) -> bool:
        return self._texts[host] is not None

    def close(self) -> None:
        """Close nothing."""


@pytest.mark.parametrize("where", ["alpha", "beta"])
def test_a_key_that_the_fleet_does_not_declare_is_copied_to_no_host(tmp_path, keys, monkeypatch, where):
    """Root of the only host with a secret puts a key of its own there; the fleet declares a factor for either host."""
    monkeypatch.setattr(enrolment, "Hosts", lambda endpoints, salt: Reached(alpha=f"{KEY}\n", beta=None))
    person = {"name": "olga", "function": "operator", "keys": [public_key(1)]}
    stack = declared(tmp_path, keys, people=[person]).stack
    of_key = digest(KEY.encode(), stack.salt)

    def prepare(factor: str | None) -> enrolment.PendingEnrolment:
        variables = {host: {"access_people": [dict(person)], "access_totp": True} for host in ("alpha", "beta")}
        variables["beta"]["access_totp_issuer"] = "site"
        variables[where]["access_people"][0]["factor"] = factor
        monkeypatch.setattr(enrolment, "access", lambda stack: variables)
        return enrolment.prepare(stack, "olga", False)

    with pytest.raises(
        ChangeRefused, match=rf"the key of olga on alpha has the digest {of_key}; .*; factor {'0' * 32}, "
    ):
        prepare("0" * 32)
    assert [prepare(factor).hosts for factor in (of_key, None)] == [("beta",)] * 2


@on_a_machine
def test_a_host_that_does_not_answer_is_reported_and_the_others_have_it(tmp_path, machine, keys):
    two = AccessProject(tmp_path / "project", machine.variables, machine.port, keys, ("alpha", "beta"))
    two.fleet.write_text(two.fleet.read_text().replace("127.0.0.1", "127.0.0.3"))
    two.fleet.with_suffix(".known_hosts").write_text(machine.pin())
    machine.root("rm -f /var/lib/totp/*")

    _, enrolled = enrol(two.stack)

    assert (enrolled.hosts, [*enrolled.failures]) == (("beta",), ["alpha"])
    assert enrolment.exit_status(enrolled) == 3


def test_an_undeclared_name_is_refused_with_the_declared_ones(tmp_path, keys):
    people = [{"name": "olga", "function": "operator", "keys": [public_key(1)]}]
    stack = declared(tmp_path, keys, people=people).stack

    with pytest.raises(DeclarationError, match=r"USER: stack rack has no person 'olgo'; one of olga\. Write olga\."):
        enrolment.prepare(stack, "olgo", False)


def test_who_needs_no_code_gets_none(tmp_path, keys):
    people = [{"name": "olga", "function": "operator", "keys": [public_key(1)]}]
    stack = declared(tmp_path, keys, people=people, totp=False).stack

    with pytest.raises(DeclarationError, match="no host that declares olga asks for a code"):
        enrolment.prepare(stack, "olga", False)


def test_a_secret_goes_into_no_file_by_itself(tmp_path, keys):
    directory = declared(tmp_path, keys).directory

    done = subprocess.run([RACKWRIGHT, "enrol", "rack", "olga"], cwd=directory, capture_output=True, text=True)

    assert done.returncode == SetupError.exit_status
    assert "standard output is not a terminal" in done.stderr


def test_a_secret_is_in_the_form_of_hosts_and_of_authenticators():
    secret = Secret.new()
    first, *options = secret.text.splitlines()

    assert re.fullmatch("[A-Z2-7]{32}", first)
    assert options == [*(f'" {option}' for option in OPTIONS), *secret.emergency]
    assert all(re.fullmatch("[1-9][0-9]{7}", code) for code in secret.emergency)
    assert secret.uri("olga", "the rack") == (f"otpauth://totp/the%20rack%3Aolga?secret={first}&issuer=the%20rack")
    assert first not in repr(secret) and secret.emergency[0] not in repr(secret)
    assert len({Secret.new().key for _ in range(10)}) == 10


@pytest.mark.parametrize(
    ("at", "shown"), [(1111111111, "050471"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")]
)
def test_codes_are_those_of_the_standard(at, shown):
    """Source: RFC 6238, appendix B, of whose eight digits authenticators show six."""
    secret = Secret(base64.b32encode(b"12345678901234567890").decode(), ())

    assert secret.code(at) == shown
    assert all(secret.accepts(f"{shown[:3]} {shown[3:]}", at + difference) for difference in (-30, 0, 30))
    assert not any(secret.accepts(shown, at + difference) for difference in (-90, -60, 60, 90))
    assert not any(secret.accepts(text, at) for text in ("", "0", shown[1:], f"{shown}0", "٠٠٠٠٠٠"))
