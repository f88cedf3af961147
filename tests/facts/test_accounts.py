"""Users and groups of a fabricated machine."""

import base64
import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright.facts.facts import Facts
from rackwright.facts.probe import accounts
from rackwright.facts.probe.observe import attempt
from tests.support.fabricated_machine import FabricatedMachine

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:*:1:1::/usr/sbin:/usr/sbin/nologin
trainee:x:1000:1000:A Trainee,,,:/home/trainee:/bin/bash
guest::1001:100::/home/guest:
backup:x:34:34:backup:/var/backups:/usr/sbin/nologin
root:x:0:0:a second one:/tmp:/bin/sh

# a comment
+@netgroup::::::
+::0:0:::
broken:x:one:1::/:/bin/sh
short:x:5:5
"""
SHADOW = """\
root:!$6$salt$hash:19000:0:99999:7:::
trainee:$y$j9T$salt$hash:19000:0:99999:7::22406:
root:$6$other:19000:0:99999:7:::
broken
"""
GROUP = """\
root:x:0:
daemon:x:1:
users:x:100:trainee
trainee:x:1000:
video:x:44:trainee,gone,trainee
+:::
"""


@pytest.fixture
def machine(tmp_path):
    machine = FabricatedMachine(tmp_path)
    for name, text in (("passwd", PASSWD), ("shadow", SHADOW), ("group", GROUP)):
        machine.write(f"etc/{name}", text)
    return machine


def test_a_user_is_what_the_three_files_say(machine):
    assert accounts.users(machine.top)["trainee"] == {
        "uid": 1000,
        "gid": 1000,
        "home": "/home/trainee",
        "shell": "/bin/bash",
        "password": "set",
        "expires": "2031-05-07",
        "groups": ["trainee", "users", "video"],
    }


def test_lines_of_another_form_are_no_users_and_of_two_the_first_counts(machine):
    found = accounts.users(machine.top)

    assert list(found) == ["root", "daemon", "trainee", "guest", "backup"]
    assert (found["root"]["home"], found["root"]["password"]) == ("/root", "locked")


def test_an_empty_password_is_distinguished_from_a_locked_and_a_missing_one(machine):
    found = accounts.users(machine.top)

    assert found["guest"]["password"] == "none"
    assert found["daemon"]["password"] == "locked"
    assert found["backup"]["password"] == {"unknown": "/etc/shadow has no line for backup"}
    machine.write("etc/shadow", "backup::19000::::::\n")
    assert accounts.users(machine.top)["backup"]["password"] == "none"


@pytest.mark.parametrize(
    ("field", "day"), [("", None), ("-1", None), ("0", "1970-01-01"), ("1", "1970-01-02"), ("20000", "2024-10-04")]
)
def test_the_end_of_an_account_is_a_day(machine, field, day):
    machine.write("etc/shadow", f"root:*:19000:0:99999:7::{field}:\n")

    assert accounts.users(machine.top)["root"]["expires"] == day


@pytest.mark.parametrize("field", ["soon", "99999999999999"])
def test_an_end_that_is_no_day_is_unknown(machine, field):
    machine.write("etc/shadow", f"root:*:19000:0:99999:7::{field}:\n")

    root = accounts.users(machine.top)["root"]

    assert root["expires"].keys() == {"unknown"}
    assert root["password"] == "locked"


def test_members_are_those_listed_and_those_whose_primary_group_it_is(machine):
    found = accounts.groups(machine.top)

    assert list(found) == ["root", "daemon", "users", "trainee", "video"]
    assert found["users"] == {"gid": 100, "members": ["guest", "trainee"]}
    assert found["video"]["members"] == ["gone", "trainee"]


def test_a_file_that_is_missing_hides_what_it_alone_reports(machine):
    (machine.root / "etc/shadow").unlink()
    (machine.root / "etc/group").unlink()

    trainee = accounts.users(machine.top)["trainee"]

    assert {key for key in trainee if isinstance(trainee[key], dict)} == {"password", "expires", "groups"}
    assert accounts.users(machine.top)["guest"]["password"] == "none"
    assert attempt(accounts.groups, machine.top).keys() == {"unknown"}
    machine.write("etc/group", GROUP)
    (machine.root / "etc/passwd").unlink()
    assert accounts.groups(machine.top)["video"]["members"].keys() == {"unknown"}
    assert attempt(accounts.users, machine.top).keys() == {"unknown"}


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=6))
def test_no_hash_is_ever_part_of_the_facts(tmp_path_factory, secret):
    machine = FabricatedMachine(tmp_path_factory.mktemp("machine"))
    machine.write("etc/passwd", f"root:x:0:0::/:/bin/sh\nold:{secret}:1:1::/:/bin/sh\n")
    machine.write("etc/shadow", f"root:{secret}:19000:0:99999:7:::\n")

    found = accounts.users(machine.top)

    assert {user["password"] for user in found.values()} <= {"set", "locked"}
    assert json.dumps(secret)[1:-1] not in json.dumps(found)


class TestLoginKeys:
    KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIEcwSpKeVuHN9iB/WQcs5uS6zyAt4sFbQtgGbeiPg518"
    PRINT = "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(KEY)).digest()).decode().rstrip("=")

    @pytest.fixture
    def root(self, tmp_path, monkeypatch):
        """A host with one account, whose sshd looks in three places."""
        (tmp_path / "etc/ssh/keys.d").mkdir(parents=True)
        (tmp_path / "home/olga/.ssh").mkdir(parents=True)
        (tmp_path / "etc/passwd").write_text(
            "olga:x:1000:1000::/home/olga:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\n"
        )
        settings = (
            "authorizedkeysfile .ssh/authorized_keys /etc/ssh/keys.d/%u %h/.ssh/more\nauthorizedkeyscommand none\n"
        )
        monkeypatch.setattr(accounts, "run_tool", lambda *argv: settings)
        return tmp_path

    def files(self, root):
        found = accounts.login_keys(str(root))
        assert [*found] == ["olga"] and found["olga"]["command"] == "none"
        return found["olga"]["files"]

    def test_each_file_that_sshd_reads_is_looked_into(self, root):
        (root / "etc/ssh/keys.d/olga").write_text(f"# hers\n\nssh-ed25519 {self.KEY} olga\n")
        (root / "home/olga/.ssh/more").write_text(f'from="192.0.2.1",command="a b" ssh-ed25519 {self.KEY}\nnonsense\n')

        assert self.files(root) == {
            "/home/olga/.ssh/authorized_keys": None,
            "/etc/ssh/keys.d/olga": [self.PRINT],
            "/home/olga/.ssh/more": [self.PRINT, "line 2 without a key"],
        }

    def test_keys_of_an_account_without_a_shell_are_listed(self, root):
        """
        Without such a file, sshd has no keys for it, and is not asked.
        """
        (root / "home/spool/.ssh").mkdir(parents=True)
        with (root / "etc/passwd").open("a") as file:
            file.write("spool:x:7:7::/home/spool:/usr/sbin/nologin\n")
        assert [*accounts.login_keys(str(root))] == ["olga"]

        (root / "home/spool/.ssh/authorized_keys").write_text(f"ssh-ed25519 {self.KEY} x\n")
        found = accounts.login_keys(str(root))["spool"]["files"]

        assert found["/home/spool/.ssh/authorized_keys"] == [self.PRINT]

    def test_a_key_in_quotes_hides_no_key_behind_it(self, root):
        other = self.KEY[:-4] + "AAAA"
        (root / "home/olga/.ssh/more").write_text(f'command="ssh-ed25519 {self.KEY} x" ssh-ed25519 {other}\n')

        assert len(self.files(root)["/home/olga/.ssh/more"]) == 2

    def test_a_link_and_a_fifo_of_the_account_are_unknown(self, root):
        (root / "home/olga/.ssh/more").symlink_to("/etc/shadow")
        os.mkfifo(root / "home/olga/.ssh/authorized_keys")
        files = self.files(root)

        assert "links are not followed" in files["/home/olga/.ssh/more"]["unknown"]
        assert "no regular file" in files["/home/olga/.ssh/authorized_keys"]["unknown"]

    def test_names_of_certificates_and_methods_are_read(self, root, monkeypatch):
        (root / "etc/ssh/names").write_text('# hers\nolga\nfrom="192.0.2.1" deploy\n')
        settings = "authorizedkeysfile none\nauthorizedkeyscommand none\nauthorizedprincipalsfile /etc/ssh/names\n"
        settings += "authorizedprincipalscommand /bin/names\nauthenticationmethods publickey,keyboard-interactive:pam\n"
        monkeypatch.setattr(accounts, "run_tool", lambda *argv: settings)
        found = Facts({"login_keys": accounts.login_keys(str(root))}).login_keys("olga")

        assert found is not None
        assert found.principals == {"/etc/ssh/names": ("deploy", "olga")}
        assert found.principals_command == "/bin/names"
        assert found.methods == ("publickey,keyboard-interactive:pam",)

    def test_settings_that_sshd_does_not_print_are_unknown(self, root):
        found = accounts.login_keys(str(root))["olga"]

        assert "prints no authorizedprincipalsfile" in found["principals"]["unknown"]
        assert "prints no authorizedprincipalscommand" in found["principals_command"]["unknown"]

    @pytest.mark.parametrize("settings", ["", "authorizedkeysfile none\n"])
    def test_an_sshd_that_says_nothing_is_unknown(self, root, monkeypatch, settings):
        monkeypatch.setattr(accounts, "run_tool", lambda *argv: settings)

        assert "sshd -T" in accounts.login_keys(str(root))["olga"]["unknown"]
