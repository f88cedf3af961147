"""Who we are at a server, and where that comes from."""

import base64
import os
from pathlib import Path

import pytest

from tests.support.mlflow_stub import Stub
from workloads.tracking.server import (
    CERTIFICATE,
    CREDENTIALS,
    NAME,
    PASSWORD,
    TrackingRefused,
    TrackingUnreachable,
    connect,
)

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
    ("url", "expected"),
    [
        ("", "is not a URL of a server"),
        ("sqlite:///x", "is not a URL of a server"),
        ("https://tina:secret@host", "host is not a URL of a server; a URL without an account"),
        (
            "http://tracking.example:5000",
            "a password is sent to another host over https only. Write https://tracking.ex",
        ),
    ],
)
def test_no_other_address_is_taken(url, expected):
    with pytest.raises(TrackingRefused) as refused:
        connect(url, {NAME: "tina", PASSWORD: "secret"})

    assert expected in str(refused.value) and "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        (
            FILE,
            0o604,
            "other accounts may read or write the file; a file that only its owner can read. Run `chmod 0600",
        ),
        ("[mlflow]\nuser = tina\n", 0o600, "the file has no account"),
        ("mlflow_tracking_password = secret", 0o600, "the file has no account"),
    ],
)
def test_a_file_that_is_not_right_is_refused_and_not_repeated(tmp_path, text, mode, expected):
    with pytest.raises(TrackingRefused) as refused:
        connect("https://a", {CREDENTIALS: str(credentials(tmp_path, text, mode))})

    assert expected in str(refused.value) and "secret" not in str(refused.value) and "mine" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about files of root")
def test_whom_root_lets_read_a_file_is_of_roots_choosing(tmp_path):
    assert who(connect("https://a", {CREDENTIALS: str(credentials(tmp_path, mode=0o640))})._head) == "tina:100%mine"


def test_files_that_are_named_have_to_be_there(tmp_path):
    for name in (CREDENTIALS, CERTIFICATE):
        with pytest.raises(TrackingRefused, match="does not exist|is not a file"):
            connect("https://a", {name: str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (401, TrackingRefused, f"Set {NAME} and {PASSWORD}, or name a file with them in {CREDENTIALS}"),
        (403, TrackingRefused, "the server answers 403: not now; an object that exists, and that the account may use"),
        (500, TrackingUnreachable, "the server answers 500: not now"),
        (429, TrackingUnreachable, "the server answers 429: not now"),
    ],
)
def test_what_a_server_answers_is_reported(status, kind, expected):
    with Stub() as stub:
        stub.status = status
        with pytest.raises(kind, match=expected) as raised:
            connect(stub.url, {}).get("runs/get")

    assert raised.value.exit_status == (2 if kind is TrackingRefused else 3)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_password_follows_no_redirect(status, method):
    with Stub() as other, Stub() as stub:
        stub.status, stub.location = status, f"{other.url}/x"
        server = connect(stub.url, {NAME: "tina", PASSWORD: "secret"})
        with pytest.raises(TrackingRefused) as refused:
            server.get("runs/get") if method == "GET" else server.post("runs/create", x=1)

    assert f"the server answers {status}, a redirect to '{other.url}/x'; an answer without a redirect" in str(
        refused.value
    )
    assert other.heads == [] and "Authorization" in stub.heads[0]


def test_a_redirect_to_no_address_at_all_is_refused_in_plain_characters():
    with Stub() as stub:
        stub.status, stub.location = 302, "http://[\x1b]52;c;x\x07"
        with pytest.raises(TrackingRefused) as refused:
            connect(stub.url, {}).get("runs/get")

    assert "\x1b" not in str(refused.value) and r"\x1b]52" in str(refused.value)


def test_a_server_of_this_computer_is_reached_past_the_proxy(monkeypatch):
    with Stub() as proxy, Stub() as stub:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        connect(stub.url, {NAME: "tina", PASSWORD: "secret"}).get("runs/get")

    assert proxy.heads == [] and len(stub.heads) == 1


def test_a_file_that_is_longer_than_registered_is_not_kept(tmp_path):
    with (
        Stub() as stub,
        pytest.raises(TrackingUnreachable, match="the server sent too much of 1/r/artifacts/x; at most 3 bytes"),
    ):
        connect(stub.url, {}).get_file("1/r/artifacts/x", tmp_path / "x", 3)

    assert not (tmp_path / "x").exists()


def test_an_endless_answer_is_no_answer(monkeypatch):
    monkeypatch.setattr("workloads.tracking.server.ANSWER_BYTES", 10)
    with Stub() as stub, pytest.raises(TrackingUnreachable, match="the answer is not from an MLflow server"):
        connect(stub.url, {}).get("runs/get")
