"""The receiver on the monitoring host records verdicts that the reader accepts, and nothing by other messages."""

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rackwright.quarantine import chain
from rackwright.quarantine.onhost import receiver
from tests.support.verdicts import KEY, RECEIVER, public

HOSTS = ["gpu-01", "gpu-02", "gpu-03", "gpu-04", RECEIVER]
CREDENTIAL = "a credential of the tests"
NOW = datetime.now(UTC)


class Rig:
    """The receiver with its files in a directory."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.chain = folder, folder / "verdicts"
        settings = {"receiver": RECEIVER, "hosts": HOSTS, "limit": limit}
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "credential").write_text(f"{CREDENTIAL}\n")
        (folder / "signing.key").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def run(self, *arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        call = (
            "import pathlib, sys; from rackwright.quarantine.onhost import receiver; "
            "receiver.main(sys.argv[3:], pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))"
        )
        argv = [sys.executable, "-c", call, str(self.folder), str(self.chain), *arguments]
        return subprocess.run(argv, input=content, capture_output=True, timeout=120, check=False)

    def send(self, body: bytes, credential: str = CREDENTIAL, length: int | None = None) -> str:
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:9095\r\nAuthorization: Bearer {credential}\r\n"
        head += f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
        done = self.run("respond", content=head.encode() + body)
        return done.stdout.decode().split("\r\n")[0].removeprefix("HTTP/1.1 ") or done.stderr.decode()

    def verdicts(self) -> list[tuple[str, str, str, str]]:
        content = self.chain.read_bytes() if self.chain.exists() else b""
        found = chain.check(content, public(), RECEIVER)
        assert isinstance(found, tuple), str(found)
        return [(each.event, each.host, each.cause, each.detail) for each in found]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, 2)


def alert(name: str, host: str, since: timedelta = timedelta(), status: str = "firing", **labels: str) -> Any:
    started = (NOW + since).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"status": status, "labels": {"alertname": name, "instance": host, **labels}, "startsAt": started}


def message(*alerts: Any) -> bytes:
    return json.dumps({"version": "4", "status": "firing", "alerts": alerts}).encode()


def test_a_message_becomes_a_verdict_that_the_reader_accepts(rig: Rig) -> None:
    sent = message(alert("DriveFailing", "gpu-01", serial="SN-4711", device="sda"), alert("GpuIdle", "gpu-02"))

    assert rig.send(sent) == "200 OK"
    assert rig.verdicts() == [("began", "gpu-01", "DriveFailing", "SN-4711")]
    assert rig.chain.stat().st_mode & 0o777 == 0o640
    assert rig.run("show").stdout == rig.chain.read_bytes()


@pytest.mark.parametrize(
    ("body", "credential", "length", "answer"),
    [
        (message(alert("GpuLost", "gpu-01")), "another", None, "401 Unauthorized"),
        (message(alert("GpuLost", "gpu-01")), "", None, "401 Unauthorized"),
        (message(alert("GpuLost", "gpu-01")), "ö", None, "401 Unauthorized"),
        (message(alert("GpuLost", "gpu-01")), CREDENTIAL, 9, "400 Bad Request"),
        (message(alert("GpuLost", "gpu-01")), CREDENTIAL, 1 << 21, "413 Content Too Large"),
        (b"[" * 100_000, CREDENTIAL, None, "400 Bad Request"),
        (b'{"alerts": [1]}', CREDENTIAL, None, "400 Bad Request"),
        (message({**alert("GpuLost", "gpu-01"), "startsAt": "0001-01-01T00:00:00+23:59"}), CREDENTIAL, None, "400"),
    ],
    ids=["other-credential", "none", "not-ascii", "cut", "too-long", "too-deep", "no-alerts", "no-time"],
)
def test_a_forged_message_changes_nothing(
    rig: Rig, body: bytes, credential: str, length: int | None, answer: str
) -> None:
    assert rig.send(body, credential, length).startswith(answer)
    assert not rig.chain.exists()


def test_messages_about_resolved_alerts_and_about_other_hosts_change_nothing(rig: Rig) -> None:
    assert rig.send(message(alert("GpuLost", "gpu-01", status="resolved"), alert("GpuLost", "gpu-99"))) == "200 OK"
    assert rig.verdicts() == []


def test_a_message_that_is_sent_again_changes_nothing(rig: Rig) -> None:
    sent = message(alert("GpuLost", "gpu-01", -timedelta(minutes=5)))
    rig.send(sent)
    rig.send(sent)
    assert rig.verdicts() == [("began", "gpu-01", "GpuLost", "")]

    assert rig.run("end", "gpu-01", content=b"a new GPU\n").returncode == 0
    rig.send(sent)
    assert [each[0] for each in rig.verdicts()] == ["began", "ended"]

    rig.send(message(alert("GpuLost", "gpu-01", timedelta(days=1))))
    assert [each[0] for each in rig.verdicts()] == ["began", "ended", "began"]


def test_no_message_exceeds_the_limit(rig: Rig) -> None:
    rig.send(message(*(alert("HostNotReached", host) for host in HOSTS)))
    assert [each[1] for each in rig.verdicts()] == ["gpu-01", "gpu-02"]

    rig.send(message(alert("DriveFailing", "gpu-01")))  # a further cause of a host that is in quarantine
    assert rig.verdicts()[2:] == [("began", "gpu-01", "DriveFailing", "")]

    rig.run("end", "gpu-02")
    rig.send(message(alert("HostNotReached", "gpu-04", timedelta(minutes=5))))
    assert rig.verdicts()[3:] == [("ended", "gpu-02", "", ""), ("began", "gpu-04", "HostNotReached", "")]


def test_the_end_of_a_host_that_is_not_in_quarantine_is_refused(rig: Rig) -> None:
    done = rig.run("end", "gpu-01")

    assert (done.returncode, done.stderr.decode().strip()) == (1, "gpu-01 is not in quarantine")


def test_labels_of_a_host_become_no_other_text(rig: Rig) -> None:
    rig.send(message(alert("DriveFailing", "gpu-01", serial='"\n\x1b[31m' + "x" * 500)))

    assert rig.verdicts()[0][3] == "___" + "_31m" + "x" * 93


def test_a_line_that_was_not_written_as_a_whole_ends_the_chain_no_more(rig: Rig) -> None:
    rig.send(message(alert("GpuLost", "gpu-01")))
    with rig.chain.open("ab") as file:
        file.write(b'{"signature":"' + base64.b64encode(bytes(64)))
    rig.send(message(alert("GpuLost", "gpu-02")))

    assert [each[1] for each in rig.verdicts()] == ["gpu-01", "gpu-02"]


def test_messages_at_once_leave_a_whole_chain(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    rig = Rig(tmp_path, 5)
    with ThreadPoolExecutor(5) as pool:
        answers = [*pool.map(lambda host: rig.send(message(alert("GpuLost", host))), HOSTS)]

    assert answers == ["200 OK"] * 5
    assert sorted(each[1] for each in rig.verdicts()) == sorted(HOSTS)


def test_receiver_and_reader_have_the_same_form() -> None:
    own = receiver.FORMAT, receiver.NAMESPACE, receiver.NO_HASH, receiver.CAUSES, receiver.CHAIN_BYTES
    assert own == (chain.FORMAT, chain.NAMESPACE, chain.NO_HASH, (*chain.CAUSES,), chain.CHAIN_BYTES)
