"""Roles played by the real Ansible over a real sshd: one run for all who ask at once, results by host."""

import base64
import contextlib
import grp
import os
import pwd
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from rackwright.core.contract import PlayRole
from rackwright.hosts import ansible
from rackwright.hosts.ansible import Plays
from rackwright.hosts.pool import Hosts
from rackwright.hosts.session import NotDone
from rackwright.kinds.shared.secrets import Redactor
from tests.support.leaks import forms, leaks
from tests.support.planted import TEXTS, text
from tests.support.simulated import SimulatedRack

ROOT = Path(__file__).parents[2]
HOSTS = ("one", "two", "three")
ACCOUNT = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
SECRET = "Tr0ub4dor&3"
TASKS = """
- name: Count the runs
  ansible.builtin.shell: "echo {{ ansible_play_hosts_all | join(' ') }} >> {{ toy_log }}"
  changed_when: false
  delegate_to: localhost
  run_once: true
  become: false
- name: Write the file
  write_files:
    files: ["{{ {'path': toy_path, 'content': toy_text | b64encode, 'mode': '0600'} | combine(toy_account) }}"]
- name: Write each pair
  write_files:
    files:
      - "{{ {'path': toy_path ~ item.value.name, 'content': (item.key ~ item.value.text) | b64encode, 'mode': '0600'}
        | combine(toy_account) }}"
  loop: "{{ toy_pairs | default({}) | dict2items }}"
- name: Write by a shell
  ansible.builtin.shell: "printf %s {{ toy_shell | quote }} > {{ (toy_path ~ '.shell') | quote }}"
  when: toy_shell is defined
- name: Say {{ toy_word | default('nothing') }}
  ansible.builtin.fail: {msg: "{{ toy_failure }}"}
  when: toy_failure is defined
- name: Complain
  ansible.builtin.shell: "echo to no purpose; echo because >&2; exit 3"
  when: toy_complains | default(false)
- name: Fail where it is asked for
  ansible.builtin.command: "false"
  when: toy_fails | default(false)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout with one role, which writes a file."""
    (tmp_path / "roles/toy/tasks").mkdir(parents=True)
    (tmp_path / "roles/toy/tasks/main.yml").write_text(TASKS)
    shutil.copytree(ROOT / "playbooks", tmp_path / "playbooks")
    return tmp_path


@pytest.fixture
def played(repository: Path, tmp_path: Path):
    """Play the role on all hosts at once, with changes to the variables of some; return how it ended on each."""
    with SimulatedRack(dict.fromkeys(HOSTS)) as rack:
        hosts = Hosts(rack.endpoints, b"salt")
        turns: list[frozenset[str]] = []
        looked = threading.Event()

        def coming(role: str) -> frozenset[str]:
            """Tell one of *turns* after the other, and the last one from then on."""
            left = turns.pop(0) if len(turns) > 1 else next(iter(turns), frozenset[str]())
            if len(turns) < 2:
                looked.set()
            return left

        plays = Plays(repository, hosts, Redactor([SECRET]), coming)

        def play(late: str = "", who: Sequence[str] = HOSTS, **changes: dict[str, object]) -> dict[str, str | None]:
            ended: dict[str, str | None] = {}
            messages: dict[str, list[str]] = {host: [] for host in HOSTS}

            def one(host: str) -> None:
                if host == late:
                    looked.wait(30)
                variables = {
                    "toy_text": f"on {host}",
                    "toy_path": str(tmp_path / host),
                    "toy_log": str(tmp_path / "log"),
                    "toy_account": ACCOUNT,
                }
                step = PlayRole("play role toy", "toy", {**variables, **changes.get(host, {})})
                try:
                    plays.play(step, host, messages[host].append)
                    ended[host] = None
                except NotDone as error:
                    ended[host] = str(error)

            threads = [threading.Thread(target=one, args=(host,)) for host in who]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            play.messages = messages  # type: ignore[attr-defined]
            return ended

        play.turns = turns  # type: ignore[attr-defined]
        yield play
        hosts.close()


def test_hosts_that_ask_at_once_are_one_run(played, tmp_path):
    """
    Each run has its own variables, and reports its progress and its changes.
    """
    played.turns.append(frozenset(HOSTS))  # a thread may start late on a computer with much work
    assert played() == dict.fromkeys(HOSTS)

    assert {host: (tmp_path / host).read_text() for host in HOSTS} == {host: f"on {host}" for host in HOSTS}
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    assert "Write the file" in played.messages["two"]
    assert played.messages["two"][-1] == "changed: Write the file"

    played()
    assert not [line for line in played.messages["two"] if line.startswith("changed")]


def test_braces_arrive_on_the_host_as_they_were_typed(played, tmp_path):
    """
    In values, in keys and in secrets, whatever a task makes of them: no text of a fleet is a template.
    """
    planted = [text(number, f"touch {tmp_path / 'ran'}") for number in range(len(TEXTS))]
    pairs = {each: {"name": f".pair-{number}", "text": each} for number, each in enumerate(planted)}
    one = {"toy_text": "".join(planted), "toy_pairs": pairs, "toy_shell": "".join(planted), "toy_word": planted[0]}

    assert played(one=one, who=("one",)) == {"one": None}

    assert (tmp_path / "one").read_text() == (tmp_path / "one.shell").read_text() == "".join(planted)
    assert [(tmp_path / f"one.pair-{number}").read_text() for number in range(len(planted))] == [
        each + each for each in planted
    ]
    assert not (tmp_path / "ran").exists()


def test_one_whose_turn_has_begun_is_waited_for(played, tmp_path, monkeypatch):
    """
    However long it is still being looked at: to begin once more costs more.
    """
    monkeypatch.setattr(ansible, "WINDOW_SECONDS", 0)
    played.turns += [frozenset(HOSTS)] * 3

    assert played(late="three") == dict.fromkeys(HOSTS)

    (run,) = (tmp_path / "log").read_text().splitlines()
    assert {*run.split()} == {*HOSTS}


def test_one_that_left_without_asking_is_waited_for_no_longer(played, tmp_path, monkeypatch):
    monkeypatch.setattr(ansible, "WINDOW_SECONDS", 0)
    played.turns += [frozenset(HOSTS)] * 3 + [frozenset({"one", "two"})]

    assert played(who=("one", "two")) == dict.fromkeys(("one", "two"))
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_a_hanging_host_delays_the_others_by_its_limit_at_most(played, tmp_path, monkeypatch):
    monkeypatch.setattr(ansible, "COMING_SECONDS", 0.5)
    played.turns.append(frozenset(HOSTS))

    assert played(who=("one", "two")) == dict.fromkeys(("one", "two"))


def test_one_host_that_fails_leaves_the_others(played, tmp_path):
    ended = played(two={"toy_fails": True})

    assert (ended["one"], ended["three"]) == (None, None)
    assert ended["two"] == "task 'Fail where it is asked for': non-zero return code"
    assert (tmp_path / "three").exists()


def test_a_command_that_fails_is_reported_in_its_own_words(played):
    """
    Not in Ansible's, which are the same for every command.
    """
    assert played(one={"toy_complains": True})["one"] == "task 'Complain': because"


def test_private_data_lies_in_memory_and_goes(played, tmp_path):
    """
    Variables may be secrets: they are in no command line while it runs, and nothing of them is left.
    """
    lines: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    lines.add(process.read_bytes().decode(errors="replace"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    played(one={"toy_text": "S3cret-of-one"})
    over.set()
    watcher.join()

    assert (tmp_path / "one").read_text() == "S3cret-of-one"
    assert any("ansible-playbook" in line for line in lines)
    assert not [line for line in lines if "S3cret" in line]
    assert leaks(forms({"one": "S3cret-of-one"}), Path("/dev/shm")) == []


def test_a_task_that_fails_says_no_secret_and_no_part_of_one(played):
    """
    Neither in its name, nor where what it says is cut off in the middle of one.
    """
    named = {host: {"toy_word": SECRET} for host in HOSTS}  # a task has its name from whichever host comes first
    named["one"]["toy_failure"], named["two"]["toy_failure"] = SECRET, "x" * 490 + SECRET
    ended = played(**named)

    assert ended["one"] == "task 'Say [secret]': [secret]"
    assert ended["two"].endswith(f"{'x' * 490}[secret]")
    assert SECRET not in str(played.messages)


def test_a_file_that_cannot_be_written_names_its_path_and_the_reason_without_its_content(played, tmp_path):
    (tmp_path / "in-the-way").mkdir()
    ended = played(one={"toy_path": str(tmp_path / "in-the-way"), "toy_text": "unknown to the redactor"})

    assert "in-the-way: [Errno 21] Is a directory" in ended["one"]
    assert "unknown to the redactor" not in ended["one"]
    assert base64.b64encode(b"unknown to the redactor").decode() not in ended["one"]
    assert ended["three"] is None


def test_a_playbook_that_is_not_there_fails_all_who_asked(played, repository):
    (repository / "playbooks/role.yml").unlink()

    ended = played()

    assert set(ended) == set(HOSTS)
    assert all(messages and "could not be" in messages for messages in ended.values())
