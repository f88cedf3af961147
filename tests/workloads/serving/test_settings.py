"""Impossible settings are refused, all at once, and so is what would be open to the world."""

import json
import os
import pwd
import socket
import ssl
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.diagnostics import sentences
from tests.support.model_servers import INFER, request, served
from workloads import config_file
from workloads.serving.__main__ import arguments, main
from workloads.serving.ask import LocalServer
from workloads.serving.settings import ServingSettings, with_model_defaults


def test_defaults_of_a_model_hold_for_a_server_that_is_started_by_hand() -> None:
    """
    Before, a server that was started by hand had set all settings, and so had no default of its model.
    """
    given = arguments().parse_args(["model", "--set", "parallel=2", "--set", "vllm.pipeline_parallel=2"])
    settings = config_file.settings(ServingSettings, given)
    defaults = {"defaults": {"parallel": 16, "context_tokens": 32768}}

    assert settings.model_fields_set == {"parallel", "vllm"}
    found = with_model_defaults(settings, defaults)
    assert (found.parallel, found.context_tokens, found.vllm.pipeline_parallel) == (2, 32768, 2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["port=99999", "ports=1"],
         "settings: port: got 99999; input should be less than 65536. Correct it there, or with --set.\n"
         "settings: ports: there is no such key. Write port.\n"),
        (["host=0.0.0.0"], "host 0.0.0.0 is reachable from other computers and there are no keys; set keys, or"),
        (["host=example.org"], "host example.org is reachable from other computers"),
        (["tls_key=a"], "tls_certificate and tls_key go together"),
        (["tls_client_authorities=a"], "tls_client_authorities needs tls_certificate: clients are not checked without"),
        (["tls_certificate=none.pem", "tls_key=none.pem"], "its key cannot be used: No such file"),
        (["keys=none.json"], "none.json: the file cannot be read: No such file or directory. Correct the path.\n"),
        (["host=192.0.2.1", "anybody=true"], "cannot listen on 192.0.2.1:8080: Cannot assign requested"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_reported(
    tmp_path: Path, changes: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument for change in changes for argument in ("--set", change)]
    assert main([str(tmp_path), *given]) == 2
    assert expected in sentences(capsys.readouterr().err)


def test_what_is_printed_is_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere", "--set", "queue=7", "--print"]) == 0
    (tmp_path / "server.json").write_text(capsys.readouterr().out)
    assert main(["nowhere", "--settings", str(tmp_path / "server.json"), "--print"]) == 0
    assert json.loads(capsys.readouterr().out)["queue"] == 7


def test_a_port_that_is_taken_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(tmp_path), "--set", f"port={port}"]) == 2
    assert sentences(capsys.readouterr().err).startswith(
        f"port: the server cannot listen on 127.0.0.1:{port}: Address already in use;"
    )


def test_a_socket_that_cannot_be_made_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--set", "port=0", "--set", f"own_socket={tmp_path / 'none' / 'own'}"]) == 2
    assert "own_socket" in (message := capsys.readouterr().err)
    assert "No such file or directory" in message


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    key, made = directory / f"{name}.key", directory / f"{name}.pem"
    argv = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made),
    ]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True)
    return made, key


def test_tls_and_the_certificates_of_clients(digits: Path, tmp_path: Path) -> None:
    (server_pem, server_key), (client_pem, client_key) = (certificate(tmp_path, name) for name in ("server", "client"))
    changes = [f"tls_certificate={server_pem}", f"tls_key={server_key}", f"tls_client_authorities={client_pem}"]
    with served(digits, *changes, f"own_socket={tmp_path / 'own'}", "connections=2") as server:
        assert server.started["address"].startswith("https://")
        own = LocalServer(str(tmp_path / "own"), pwd.getpwuid(os.geteuid()).pw_name)
        assert own.version() == server.started["version"], "its own host needs no certificate"
        with socket.create_connection(server.address), socket.create_connection(server.address):
            assert own.version() == server.started["version"], "it is answered where clients have all connections"
        assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o600
        known, stranger = (ssl.create_default_context(cafile=str(server_pem)) for _ in range(2))
        known.load_cert_chain(client_pem, client_key)

        assert _status(server.address, known) == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _status(server.address, stranger)
        assert server.end() == 0


def _status(address: tuple[str, int], context: ssl.SSLContext) -> int:
    from http.client import HTTPSConnection

    connection = HTTPSConnection(*address, context=context, timeout=60)
    connection.request("POST", INFER.format("digits"), request(np.zeros((1, 8, 8))))
    return connection.getresponse().status
