"""The files of quarantine on the monitoring host: the route of Alertmanager, its credential, and the key."""

import json
import os
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from rackwright.quarantine.chain import CAUSES, check
from rackwright.quarantine.onhost import reader, receiver
from rackwright.quarantine.program import verdict_receiver_program
from tests.roles.test_monitoring_roles import OPERATORS
from tests.support.expect import eventually
from tests.support.monitoring import SECRETS, arguments, client, files, free_port, get, running, wait_for, write

PLACE = "/etc/rackwright/quarantine_receiver"
HOSTS = {"hosts": ["gpu-02", "gpu-01", "gpu-03", "gpu-04"], "share_percent": 25}
VARIABLES = {**HOSTS, "readers": ["127.0.0.1"]}
READS = {**HOSTS, "receiver": "gpu-01", "address": "127.0.0.1"}


def test_alertmanager_sends_causes_beside_the_messages_to_people() -> None:
    routes = [{"severity": "critical", "receiver": "operators"}]
    made = files("alertmanager", SECRETS, receivers=[OPERATORS], routes=routes, quarantine_port=9095)
    settings = yaml.safe_load(str(made["/etc/rackwright/alertmanager/alertmanager.yml"].content))

    _, verdicts, critical, last = settings["route"]["routes"]
    assert (verdicts["receiver"], verdicts["continue"]) == ("quarantine", True)
    assert verdicts["matchers"] == [f'alertname =~ "{"|".join(CAUSES)}"']
    # without the last route, an alert that matches the one with `continue` alone would reach no person
    assert (critical["receiver"], last) == ("operators", {"receiver": "operators"})
    [webhook] = next(each for each in settings["receivers"] if each["name"] == "quarantine")["webhook_configs"]
    assert webhook["url"] == "http://127.0.0.1:9095/" and not webhook["send_resolved"]
    assert webhook["http_config"]["authorization"]["credentials_file"] in made


def test_without_quarantine_alertmanager_has_no_credential_and_no_such_route() -> None:
    made = files("alertmanager", SECRETS, receivers=[OPERATORS])

    assert "quarantine" not in str(made["/etc/rackwright/alertmanager/alertmanager.yml"].content)
    assert not [path for path in made if "quarantine" in path]


def test_receiver_and_alertmanager_have_the_same_credential() -> None:
    made = files("quarantine_receiver", SECRETS, **VARIABLES)
    other = files("alertmanager", SECRETS, receivers=[OPERATORS], quarantine_port=9095)

    credential = made[f"{PLACE}/credential"]
    assert credential.content == other["/etc/rackwright/alertmanager/quarantine.credential"].content
    assert (credential.mode, made[f"{PLACE}/signing.key"].mode) == ("0600", "0600")


def test_the_key_is_none_of_the_keys_of_certificates() -> None:
    key = str(files("quarantine_receiver", SECRETS, **VARIABLES)[f"{PLACE}/signing.key"].content)
    others = {
        str(each.content)
        for role, more in (("prometheus", {}), ("alertmanager", {"receivers": [OPERATORS]}))
        for path, each in files(role, SECRETS, **more).items()
        if path.endswith(".key")
    }

    load_pem_private_key(key.encode(), None)
    assert others and key not in others


def test_the_settings_have_the_hosts_and_the_limit() -> None:
    made = files("quarantine_receiver", SECRETS, **VARIABLES)
    settings = json.loads(str(made[f"{PLACE}/settings.json"].content))

    assert settings["hosts"] == sorted(VARIABLES["hosts"]) and settings["limit"] == 1
    assert str(receiver.SETTINGS) == PLACE
    reads = files("quarantine_reader", SECRETS, **READS)
    own = json.loads(str(reads[f"{reader.PLACES.settings}/settings.json"].content))
    assert {name: own[name] for name in ("hosts", "limit", "receiver")} == settings
    assert "def main(" in str(reads["/usr/local/sbin/rackwright-quarantine-reader"].content)
    assert "def main(" in str(made["/usr/local/sbin/rackwright-quarantine"].content)


@contextmanager
def receiving(port: int, program: Path) -> Iterator[None]:
    """Run *program* for each connection to *port* of loopback, as systemd does, until the end of the context."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            argv = ["/usr/bin/python3", "-ISXutf8", str(program), "respond"]
            subprocess.run(argv, stdin=self.request, stdout=self.request, check=True)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    with Server(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def test_an_alert_of_alertmanager_becomes_a_verdict_that_the_reader_accepts(tmp_path: Path) -> None:
    port, alertmanager = free_port(), free_port()
    variables = {**VARIABLES, "port": port}
    write(tmp_path, files("prometheus", SECRETS, port=free_port(), alertmanager_port=alertmanager))
    write(tmp_path, files("alertmanager", SECRETS, port=alertmanager, receivers=[OPERATORS], quarantine_port=port))
    write(tmp_path, files("quarantine_receiver", SECRETS, **variables))
    program, chain = tmp_path / "program", tmp_path / "var/lib/rackwright-quarantine/verdicts"
    text = verdict_receiver_program()
    for place in ("/etc/rackwright/quarantine_receiver", "/var/lib/rackwright-quarantine"):
        text = text.replace(f'"{place}', f'"{tmp_path}{place}')
    program.write_text(text)
    chain.parent.mkdir(parents=True)
    labels = {"alertname": "GpuLost", "instance": "gpu-02", "severity": "critical"}
    body = json.dumps([{"labels": labels, "startsAt": datetime.now(UTC).isoformat()}])

    argv = arguments(tmp_path, "rackwright-alertmanager.service")
    with receiving(port, program), running("prometheus-alertmanager", "prometheus-alertmanager", *argv):
        wait_for(alertmanager)
        connection = HTTPSConnection("127.0.0.1", alertmanager, timeout=60, context=client(tmp_path))
        connection.request("POST", "/api/v2/alerts", body, {"content-type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()
        eventually(lambda: chain.exists() and chain.stat().st_size > 0, "the alert is a verdict")

    key = load_pem_private_key((tmp_path / f"{PLACE[1:]}/signing.key").read_bytes(), None).public_key()
    found = check(chain.read_bytes(), key.public_bytes(Encoding.Raw, PublicFormat.Raw), "gpu-01")
    assert isinstance(found, tuple) and [(each.host, each.cause) for each in found] == [("gpu-02", "GpuLost")]


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("q")  # short, for the path of a socket


def served(directory: Path, port: int, secrets: Mapping[str, str] = SECRETS) -> AbstractContextManager[object]:
    """Serve the verdicts below *directory*, and write the files of a reader there."""
    write(directory, files("quarantine_receiver", SECRETS, **VARIABLES, read_port=port))
    write(directory, files("quarantine_reader", secrets, **READS, port=port))
    for place in ("run/rackwright-quarantine-verdicts", "run/reader", "var/lib/reader", "runs"):
        (directory / place).mkdir(parents=True)
    own_account = ["-g", "user root;"] if os.geteuid() == 0 else []
    return running("nginx", "nginx", *arguments(directory, "rackwright-quarantine-verdicts.service"), *own_account)


def reading(directory: Path) -> reader.Places:
    etc = directory / "etc/rackwright/quarantine_reader"
    return reader.Places(etc, directory / "var/lib/reader", directory / "run/reader", directory / "runs")


def test_a_reader_has_the_verdicts_that_the_receiver_signs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port, chain = free_port(), place / "var/lib/rackwright-quarantine/verdicts"
    with served(place, port):
        wait_for(port)
        assert reader.main([], reading(place)) == 0
        assert (place / "run/reader/hosts").read_text() == "", "before the first verdict, no host is in quarantine"
        chain.parent.mkdir(parents=True)
        with receiver.Chain(place / PLACE[1:], chain) as opened:
            opened.begin("GpuLost", "gpu-03", "GPU 0", "2026-12-07T00:00:00Z")
        assert reader.main([], reading(place)) == 0
        assert (place / "run/reader/hosts").read_text() == "gpu-03\n"
        assert (place / "var/lib/reader/verdicts").read_bytes() == chain.read_bytes()
        context = client(place, "quarantine_reader")
        assert get(port, "/other", context)[0] == 404 and get(port, "/verdicts", context, "POST")[0] == 403
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wrong", ["no certificate", "another key", "a certificate for metrics"])
def test_without_a_certificate_of_a_reader_there_are_no_verdicts(place: Path, wrong: str) -> None:
    port, etc = free_port(), place / "etc/rackwright"
    secrets = {**SECRETS, "monitoring_key": "x" * 32} if wrong == "another key" else SECRETS
    with served(place, port, secrets):
        wait_for(port)
        if wrong == "a certificate for metrics":
            write(place, files("prometheus", SECRETS, port=free_port()))
            for name in ("client.crt", "client.key"):
                (etc / "quarantine_reader" / name).write_bytes((etc / "prometheus" / name).read_bytes())
        context = ssl.create_default_context(cafile=str(etc / "quarantine_receiver/authority.crt"))
        if wrong != "no certificate":
            own = etc / "quarantine_reader"
            context.load_cert_chain(own / "client.crt", own / "client.key")
        assert get(port, "/verdicts", context)[0] == 400


def test_a_reader_believes_no_other_server(place: Path) -> None:
    port = free_port()
    with served(place, port, {**SECRETS, "monitoring_key": "x" * 32}):
        wait_for(port)
        settings = json.loads((reading(place).settings / "settings.json").read_text())
        with pytest.raises(ssl.SSLCertVerificationError):
            reader.fetch(settings, reading(place).settings)
