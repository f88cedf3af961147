"""The health of services: each is asked as a client does, and none decides about another one."""

import http.server
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts import health_metrics
from rackwright.facts.program import health_metrics_program
from rackwright.kinds.role.derived_certificates import derived_certificate, derived_key
from rackwright.kinds.role.health import services
from tests.support.our_roles import ROLES

NAMES = ("127.0.0.1",)


@contextmanager
def service(answer: bytes, certificate: tuple[Path, Path] | None = None, endless: bool = False) -> Iterator[int]:
    """Serve *answer* on a port of loopback until the end of the context, and return the port."""
    done = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(answer)
            while endless and not done.wait(0.05):
                self.wfile.write(b"x")
                self.wfile.flush()

        def log_message(self, format: str, *arguments: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server.server_port
        finally:
            done.set()
            server.shutdown()


def declared(name: str, port: int, certificate: Path | str = "") -> dict[str, Any]:
    return {"service": name, "address": "127.0.0.1", "port": port, "path": "/x", "certificate": str(certificate)}


def up(*services: dict[str, Any]) -> dict[str, str]:
    """Return the value of `rackwright_service_up` of each of *services*."""
    return dict(
        re.findall(r'(?m)^rackwright_service_up\{service="([^"]+)"\} (\d)$', health_metrics.metrics([*services]))
    )


def answer(status: int) -> bytes:
    return f"HTTP/1.0 {status} x\r\ncontent-length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(("status", "value"), [(200, "1"), (401, "1"), (404, "1"), (500, "0"), (502, "0"), (503, "0")])
def test_a_service_that_answers_with_an_error_of_its_own_is_not_up(status: int, value: str):
    with service(answer(status)) as port:
        assert up(declared("a", port)) == {"a": value}


def test_the_time_of_an_answer_is_measured_and_that_of_none_is_not():
    with service(answer(200)) as port:
        text = health_metrics.metrics([declared("a", port), declared("closed", 1)])
    assert re.findall(r'rackwright_service_seconds\{service="(\w+)"\}', text) == ["a"]


def pair(directory: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate and its key, and return their paths."""
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    paths[0].write_text(derived_certificate("k" * 32, name, "server", NAMES))
    paths[1].write_text(derived_key("k" * 32, name, "server"))
    return paths


def test_a_program_in_the_place_of_a_service_is_not_the_service(tmp_path: Path):
    """Another account has a certificate of the same authority, or serves without TLS; or the file has changed."""
    own, other = pair(tmp_path, "own"), pair(tmp_path, "other")
    chain = tmp_path / "chain.crt"
    chain.write_text(f"{own[0].read_text()}{other[0].read_text()}")
    with service(answer(200), own) as right, service(answer(200), other) as wrong, service(answer(200)) as plain:
        found = up(
            declared("right", right, own[0]),
            declared("chain", right, chain),
            declared("wrong", wrong, chain),
            declared("plain", plain, own[0]),
            declared("lost", right, tmp_path / "lost.crt"),
        )
    assert found == {"right": "1", "chain": "1", "wrong": "0", "plain": "0", "lost": "0"}


def test_no_service_ends_or_delays_the_health_of_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health_metrics, "SECONDS", 2)
    head = b"HTTP/1.0 200 OK\r\n"
    with service(answer(200)) as good, service(head + b"a: ", endless=True) as slow, service(b"\xff" * 99) as odd:
        found = up(
            declared("slow", slow), declared("odd", odd), {**declared("none", 1), "port": 99999}, declared("good", good)
        )
    assert found == {"slow": "0", "odd": "0", "none": "0", "good": "1"}


def test_the_program_for_hosts_runs_alone_and_answers_one_request(tmp_path: Path):
    program, file = tmp_path / "program", tmp_path / "services.json"
    with service(answer(200)) as port:
        file.write_text(json.dumps([declared("mlflow", port), declared("closed", 1)]))
        program.write_text(health_metrics_program().replace(health_metrics.SERVICES, str(file)))
        argv = ["/usr/bin/python3", "-I", "-S", str(program)]
        done = subprocess.run(argv, input=b"GET /metrics HTTP/1.0\r\n\r\n", capture_output=True)

    assert b'rackwright_service_up{service="mlflow"} 1\n' in done.stdout
    assert b"closed: [Errno 111]" in done.stderr, done.stderr
    assert subprocess.run(argv, input=b"GET / HTTP/1.0\r\n\r\n", capture_output=True).stdout.startswith(b"HTTP/1.0 400")


def test_roles_say_where_the_health_of_their_services_is():
    balancer = {"services": {"r1": {"port": 8088, "members": ["10.0.0.1:8080"]}}, "address": "10.0.0.9"}
    read_only = {"name": "reader", "password": {"secret": "reader"}, "read_only": True}
    found = {
        role: [(each["service"], each["address"], each["port"], each["certificate"]) for each in rows]
        for role, settings in {
            "mlflow": {"address": "10.0.0.9"},
            "registry": {"accounts": [read_only]},
            "object_store": {"gateway": "10.0.0.8", "address": "10.0.0.9"},
            "load_balancer": balancer,
            "kubernetes_node": {},
            "base": {},
        }.items()
        for rows in [[*services(ROLES[role], "debian-12", settings)]]
    }
    registry = "/etc/rackwright/registry/tls.crt"
    assert found == {
        "mlflow": [("mlflow", "10.0.0.9", 5000, "/etc/rackwright/mlflow/tls.crt")],
        "registry": [
            ("registry", "127.0.0.1", 5000, registry), ("registry-readers", "127.0.0.1", 5001, registry),
        ],
        "object_store": [],
        "load_balancer": [("load-balancer-r1", "10.0.0.9", 8088, "")],
        "kubernetes_node": [("kubelet", "127.0.0.1", 10248, "")],
        "base": [],
    }  # fmt: skip
