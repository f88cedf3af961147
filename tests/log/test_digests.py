"""What an entry says about the declaration, the code and the actor."""

import os
import pwd
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from rackwright import locations
from rackwright.log import actor, digests
from tests.support.recorded_hosts import STACK


def test_another_declaration_has_another_digest_and_the_same_code() -> None:
    renamed = replace(STACK, fleet=STACK.fleet.model_copy(update={"fleet": "another"}))
    before, after = digests.of_stack(STACK), digests.of_stack(renamed)

    assert before["declaration"] != after["declaration"]
    assert before["code"] == after["code"] == digests.of_code()["code"]
    assert digests.of_stack(STACK) == before


def test_values_of_secrets_are_in_no_digest() -> None:
    assert digests.of_stack(STACK.with_secrets({"a": "x"})) == digests.of_stack(STACK.with_secrets({"a": "y"}))


def test_a_changed_file_is_another_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rackwright/a.py", "roles/base/tasks/main.yml", "templates/etc/motd.j2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(locations, "repository", lambda: tmp_path)
    monkeypatch.setattr(locations, "PACKAGE", tmp_path / "rackwright")
    monkeypatch.setattr(locations, "commit", lambda: None)
    of_code = digests.of_code.__wrapped__
    found = [of_code()]
    for name in ("rackwright/a.py", "roles/base/tasks/main.yml", "templates/etc/motd.j2"):
        (tmp_path / name).write_text("2")
        found.append(of_code())
    (tmp_path / "notes.txt").write_text("nothing that runs")

    assert len({each["code"] for each in found}) == 4
    assert of_code() == found[-1]


def test_the_actor_is_the_account_and_the_computer_of_the_process() -> None:
    found = actor.current({"SSH_CONNECTION": "192.0.2.7 50022 192.0.2.1 22"})

    assert (found["account"], found["computer"]) == (pwd.getpwuid(os.geteuid()).pw_name, socket.gethostname())
    assert found["source"] == "192.0.2.7"
    assert actor.current({})["source"] is None


@pytest.mark.parametrize(
    ("text", "login"), [("0", "root"), ("4294967295", None), ("4000000000", "4000000000"), ("", None)]
)
def test_the_login_is_that_of_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, login: str | None
) -> None:
    (tmp_path / "loginuid").write_text(text)
    monkeypatch.setattr(actor, "_LOGIN", tmp_path / "loginuid")

    assert actor.current({})["login"] == login
