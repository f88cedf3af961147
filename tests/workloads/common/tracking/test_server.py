"""Who we are at a server, and where that comes from."""

import base64
import os
from pathlib import Path

import pytest

from tests.workloads.common.tracking.stub import Stub
from workloads.common.tracking.server import CERTIFICATE, CREDENTIALS, NAME, PASSWORD, NotReached, Refused, connect

FILE = "[mlflow]\nmlflow_tracking_username = tina\nmlflow_tracking_password = 100%mine\n"


def credentials(directory: Path, text: str = FILE, mode: int = 0o600) -> Path:
    path = directory / "credentials"
    path.write_text(text)
    path.chmod(mode)
    return path


def who(head: dict[str, str]) -> str:
    return base64.b64decode(head["Authorization"].removeprefix("Basic ")).decode()


def test_the_account_comes_from_the_environment_before_any_file(tmp_path):
    named = {CREDENTIALS: str(credentials(tmp_path))}

    assert who(connect("https://a", named)._head) == "tina:100%mine"
    assert who(connect("https://a", {**named, NAME: "tom", PASSWORD: "p"})._head) == "tom:p"


def test_the_file_of_mlflows_own_client_is_taken(tmp_path):
    (tmp_path / ".mlflow").mkdir()
    credentials(tmp_path / ".mlflow")

    assert who(connect("https://a", {"HOME": str(tmp_path)})._head) == "tina:100%mine"
    assert "Authorization" not in connect("https://a", {"HOME": "/nonexistent"})._head


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "a server is named by its URL"),
        ("sqlite:///x", "a server is named by its URL"),
        ("https://tina:secret@host", "got host; a server is named by its URL, without an account"),
        ("http://tracking.example:5000", "a password goes to another host by https alone. Write https://tracking.ex"),
    ],
)
def test_no_other_address_is_taken(url, said):
    with pytest.raises(Refused) as refused:
        connect(url, {NAME: "tina", PASSWORD: "secret"})

    assert said in str(refused.value) and "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (FILE, 0o604, "got a file that others may read or write; only its owner can read it. Run `chmod 0600"),
        ("[mlflow]\nuser = tina\n", 0o600, "got no account in it"),
        ("mlflow_tracking_password = secret", 0o600, "got no account in it"),
    ],
)
def test_a_file_that_is_not_right_is_refused_and_not_repeated(tmp_path, text, mode, said):
    with pytest.raises(Refused) as refused:
        connect("https://a", {CREDENTIALS: str(credentials(tmp_path, text, mode))})

    assert said in str(refused.value) and "secret" not in str(refused.value) and "mine" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about files of root")
def test_whom_root_lets_read_a_file_is_of_roots_choosing(tmp_path):
    assert who(connect("https://a", {CREDENTIALS: str(credentials(tmp_path, mode=0o640))})._head) == "tina:100%mine"


def test_files_that_are_named_have_to_be_there(tmp_path):
    for name in (CREDENTIALS, CERTIFICATE):
        with pytest.raises(Refused, match="it names a file"):
            connect("https://a", {name: str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, Refused, f"Set {NAME} and {PASSWORD}, or name a file with them in {CREDENTIALS}"),
        (403, Refused, "got 403: not now; the account may do that, and what it is about is there"),
        (500, NotReached, "got 500: not now"),
        (429, NotReached, "got 429: not now"),
    ],
)
def test_what_a_server_answers_is_said(status, kind, said):
    with Stub() as stub:
        stub.status = status
        with pytest.raises(kind, match=said) as raised:
            connect(stub.url, {}).get("runs/get")

    assert raised.value.exit_status == (2 if kind is Refused else 3)
