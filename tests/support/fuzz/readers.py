"""Readers of single texts of others: each returns a value, or raises an error of ours.

`READERS` names the module of each; `tests/test_fuzzed_readers.py` compares it with all modules that read foreign data.
"""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st

from rackwright.audit import digests
from rackwright.endpoints import minio
from rackwright.endpoints.oci_archive import Descriptor, open_image
from rackwright.endpoints.registry import RegistryClient, _Answer
from rackwright.erase import run as erase
from rackwright.errors import Diagnostic, HostUnreachable, UserError
from rackwright.facts.view import UnknownFact
from rackwright.foreign import InvalidData, parse_json, parse_object
from rackwright.hosts import pool
from rackwright.hosts.session import NotDone, Session
from rackwright.kinds.network import unmanaged
from rackwright.log import entry, heads
from rackwright.qualify import dcgm, nvbandwidth
from rackwright.qualify import run as qualification
from rackwright.qualify.bench import Bench
from rackwright.qualify.item import MeasurementFailed
from rackwright.quarantine import chain
from rackwright.status import alerts, audit_files, journal
from rackwright.tiering import canary
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.manifest import ArchivedFile, Manifest
from rackwright.tiering.meter import Meter
from rackwright.tiering.remote import HostDirectory
from tests.support import federations, verdicts
from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import Mutations, mutated_bytes, mutated_data, of_bytes, of_data
from workloads.federation import messages
from workloads.federation.transcript import Transcript

ALLOWED = (UserError, UnknownFact, MeasurementFailed)
FILE = {"path": "a/b", "mode": 0o640, "bytes": 1, "sha256": "0" * 64, "mtime_ns": 1}
ARCHIVED = ArchivedFile(path="a/b", mode=0o640, bytes=1, sha256="0" * 64)
ITEM = {"path": "models/a", "bytes": 1, "files": 1, "newest": 5.5, "in_use": False}
LINES: Mapping[str, list[dict[str, Any]]] = {
    "scan": [{"file": FILE}, {"done": True}],
    "others": [{"other": "x", "link": True}, {"done": True}],
    "list": [{"usage": {"used": 1, "total": 2}}, {"item": ITEM}, {"done": True}],
    "measure": [{"write_seconds": 1.5, "read_seconds": 2, "done": True}],
    "delete": [{"changed": ["a/b"], "done": True}],
    "download": [{"path": "a/b", "bytes": 1, "sha256": "0" * 64}, {"path": "c", "bytes": None, "sha256": None}],
    "upload": [{"part": 1, "tag": "x", "bytes": 1}, {"done": True}],
    "error": [{"error": "no room", "in_part": True}],
}
NETPLAN = """network:
  version: 2
  ethernets:
    eth0: {match: {name: "e*", macaddress: "00:11:22:33:44:55"}, set-name: eth0, dhcp4: true}
  bonds:
    bond0: {interfaces: [eth0, eth1], mtu: 9000}
"""
NETWORKD = "[Match]\nName=e* !eth1\nMACAddress=00:11:22:33:44:55\n\n[Network]\nDHCP=yes\n[NetDev]\nName=eth0\n"
IFUPDOWN = "auto lo eth0\niface eth0 inet static\n  address 10.0.0.1/24\nsource /etc/network/interfaces.d/*\n"
ODD_FILES = (
    "network: {a: 2026-13-45}",
    f"network: {{a: {'9' * 6000}}}",
    f"network: {{0x{'f' * 6000}: {{a: {{}}}}}}",
    "network: {bonds: {b: {interfaces: 5}}}",
    "network: {bonds: {b: {interfaces: {a: 1}}}}",
    "network: {ethernets: {a: {match: {name: [[x]]}, set-name: [x]}}}",
    "network: {ethernets: {a: {match: {macaddress: {a: 1}}}}}",
    "a: &a [1]\nb: *a\n",
    "[Match]\nName\n continued\n",
    "[Match]\nName\nMACAddress\n",
)
DIAGNOSIS = {"DCGM Diagnostic": {"test_categories": [{"tests": [{"name": "a", "results": [{"status": "Pass"}]}]}]}}
RATES = {"nvbandwidth": {"testcases": [{"name": "a", "status": "Passed", "bandwidth_matrix": [["N/A", "90.5"]]}]}}
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + "0" * 64, "size": 2}
IMAGE = {"manifests": [{**CONFIG, "mediaType": "application/vnd.oci.image.manifest.v1+json"}]}
ANSWER = {
    "status": 202,
    "headers": {"location": "/v2/x?state=1", "content-length": "1", "docker-content-digest": "sha256:0"},
    "body": {"errors": [{"code": "DENIED", "message": "no"}]},
}
ENTRY = {"log": "a", "event": "b", "sequence": 1, "previous": ""}
ALERT = {
    "labels": {"alertname": "A", "instance": "h", "severity": "info"},
    "annotations": {"summary": "x"},
    "startsAt": "2026-12-01T00:00:00Z",
    "status": {"state": "suppressed"},
    "receivers": [{"name": "team"}],
}
SILENCE = {
    "id": "1",
    "status": {"state": "active"},
    "matchers": [{"name": "alertname", "value": "A"}],
    "comment": "x",
    "createdBy": "me",
    "endsAt": "2026-12-01T00:00:00Z",
}
STATEMENT = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::b/*"]}
POLICIES = {"rackwright.b.user": {"Version": "2012-10-17", "Statement": [STATEMENT]}}
USER = {"status": "enabled", "policyName": "rackwright.b.user", "memberOf": ["team"], "policy": "x"}
CANARY = {"runtime": "a", "outputs": {"y": [1.5, 2]}}


class _Facts:
    """Facts with one text in the place of each file."""

    def __init__(self, text: str) -> None:
        self._text = text

    def listing(self, folder: str) -> tuple[str, ...]:
        return ("50-x.yaml", "05-x.network", "x.netdev")

    def text(self, path: str) -> str:
        return self._text

    def port(self, mac: str | None, pci: str | None) -> None:
        return None


def _host(content: bytes) -> None:
    """Use the lines of a host in each way."""
    lines = content.decode("utf-8", "replace").splitlines()

    def run(argv: Any, stdin: bytes = b"", seconds: float = 0, on_line: Any = None, **_: Any) -> Any:
        for line in lines if on_line else ():
            on_line(line)
        return SimpleNamespace(status=0, stdout=b"", stderr=b"")

    directory = HostDirectory("h", "/d", lambda: SimpleNamespace(run=run))  # type: ignore[arg-type, return-value]
    meter = Meter(lambda text: None, "", 1)
    client = SimpleNamespace(
        create_multipart_upload=lambda **_: {"UploadId": "1"},
        generate_presigned_url=lambda *_, **__: "https://x",
        abort_multipart_upload=lambda **_: None,
        complete_multipart_upload=lambda **_: None,
    )
    bucket = Bucket("b", client)
    for use in (
        directory.files,
        lambda: directory.listing("*"),
        lambda: directory.measure("x", 1),
        lambda: directory.delete([]),
        lambda: directory.download(bucket, "a", [ARCHIVED], meter),
        lambda: directory.upload(bucket, "a", SimpleNamespace(file=ARCHIVED), meter),  # type: ignore[arg-type]
        lambda: directory.relocate("/e", meter),
    ):
        _allowed(use)


def _allowed(use: Callable[[], object]) -> None:
    try:
        use()
    except ALLOWED as error:
        assert str(error)


def _network(content: bytes) -> None:
    facts: Any = _Facts(content.decode("utf-8", "replace"))
    _allowed(lambda: [*unmanaged._netplan(facts, {"eth0"}, "00:11:22:33:44:55")])
    _allowed(lambda: [*unmanaged._networkd(facts, {"eth0"}, "00:11:22:33:44:55")])
    _allowed(lambda: unmanaged.ifupdown_interfaces(facts))


def _registry(content: bytes) -> None:
    client: Any = object.__new__(RegistryClient)
    client._url, client._account = "https://registry.example:5000", "rackwright"
    try:
        raw = json.loads(content)
        headers = {str(name).lower(): str(value) for name, value in raw["headers"].items()}
        answer = _Answer(int(raw["status"]), headers, json.dumps(raw["body"]).encode("utf-8", "replace"))
    except Exception:  # the client of HTTP gives a status, texts and bytes
        answer = _Answer(202, {"location": content.decode("latin-1")}, content)
    blob = Descriptor("a", "sha256:0", 1)
    client._request = lambda *_, **__: answer
    _allowed(lambda: client._has("r", blob))
    _allowed(lambda: client._send("r", blob, io.BytesIO()))
    _allowed(lambda: client._expect(answer, 200, "do it"))
    _allowed(lambda: client._compare(answer, "sha256:0"))


def _image(content: bytes) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory, "image.tar")
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo("index.json")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        def use() -> None:
            with open_image(path):
                pass

        _allowed(use)


def _canary(content: bytes) -> None:
    manifest = Manifest(name="model-1", files=(ARCHIVED,))
    bucket: Any = SimpleNamespace(
        read=lambda key, limit: content,
        where=lambda key: key,
        name="b",
        manifest_key=lambda name: name,
        client=SimpleNamespace(put_object=lambda **_: None),
    )
    _allowed(lambda: canary.find(bucket, manifest))


def _texts(content: bytes) -> None:
    connection: Any = SimpleNamespace(
        run=lambda *_, **__: SimpleNamespace(status=0, stdout=content.decode("utf-8", "replace")),
        connection_lost=lambda text: HostUnreachable(Diagnostic("h", text)),
    )

    def use() -> None:
        found = pool._texts(connection, ["/a"])
        assert all(isinstance(value, str | None) for value in found.values())

    _allowed(use)


def _events(content: bytes) -> None:
    left = [content]

    class Channel:
        def recv(self, size: int) -> bytes:
            return left.pop() if left else b""

    session: Any = object.__new__(Session)
    session._received, session._channel, session._interrupted = b"", Channel(), lambda: False
    session.connection = SimpleNamespace(
        connection_lost=lambda text: HostUnreachable(Diagnostic("h", text)),
        exit_error=lambda *_: HostUnreachable(Diagnostic("h", "it ended")),
    )

    def use() -> None:
        try:
            session._answer(assert_text)
        except NotDone as error:
            assert_text(str(error))

    _allowed(use)


def assert_text(text: object) -> None:
    assert isinstance(text, str)


REPORT = {
    "size_bytes": 4096, "command": "x", "tool": "x", "kernel": "6.1", "started_at": "2026-01-01T00:00:00Z",
    "ended_at": "2026-01-01T00:00:00Z", "verification": {
        "bytes_read": 4096, "blocks_with_content": 0, "block_bytes": 4096, "first_content_at": None, "seconds": 1.5,
    },
}  # fmt: skip


def _erased(content: bytes) -> None:
    identity = SimpleNamespace(strongest=("serial", "x"))
    fleet = SimpleNamespace(fleet="f", hosts={"h": SimpleNamespace(identity=identity)})
    stack: Any = SimpleNamespace(name="rack", fleet=fleet)
    request: Any = SimpleNamespace(host="h", method="overwrite")
    try:
        report = parse_json(content)
    except InvalidData:
        return
    target = erase.Target("S1", "model", "sata", "", "")
    result = erase._make_result(stack, request, [target], {"S1": report})
    assert bool(result.failures) != bool(result.certificate)


def _measured(content: bytes) -> None:
    bench: Any = object.__new__(Bench)
    text = content.decode("utf-8", "replace")
    with patch.object(Bench, "run", lambda *_, **__: SimpleNamespace(status=0, stdout=text, stderr="")):

        def use() -> None:
            assert isinstance(bench.script("x", "stream", (), 1.0), dict)

        _allowed(use)


def _alerts(content: bytes) -> None:
    """Read an answer of Alertmanager as alerts, as silences, and as the answer about a new silence."""

    def run(argv: Any, stdin: bytes = b"") -> Any:
        line = b"200 " + content.replace(b"\n", b" ") + b"\n"
        paths = len([each for each in argv if each.startswith("/api/")]) if "EACH" in argv else 0
        return SimpleNamespace(status=0, stdout=line * paths or b"200\n" + content, stderr="")

    hosts: Any = SimpleNamespace(connection=lambda host: SimpleNamespace(run=run))
    fleet = SimpleNamespace(
        monitoring=SimpleNamespace(host="h"), hosts={"h": SimpleNamespace(roles={"alertmanager": {}})}
    )
    stack: Any = SimpleNamespace(name="rack", fleet=fleet)
    _allowed(lambda: alerts.alerts(hosts, stack))
    _allowed(lambda: alerts.silences(hosts, stack))
    _allowed(lambda: alerts.expire(hosts, stack, "A", ""))
    _allowed(lambda: alerts.silence(hosts, stack, "HostNotReached", "", "why", "me", 60))


def _rights(content: bytes) -> None:
    """Read answers of MinIO's admin API: any of them leaves the policy of a bucket known or unknown."""
    found: dict[str, dict[str, Any]] = {"b": {"policy": []}}

    def send(*_: Any) -> Any:
        return parse_object(content.decode("utf-8", "replace"), minio.ANSWER_BYTES)

    with patch.object(minio, "send", send):
        try:
            keys = SimpleNamespace(_credentials=SimpleNamespace(access_key="a", secret_key="s"))
            minio.add_policies(SimpleNamespace(_request_signer=keys), {"b": ["user"]}, found)
        except InvalidData:
            return  # the sender itself makes an empty answer of it
    assert isinstance(found["b"]["policy"], list | dict)


def _digests(content: bytes) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory, "digests.json")
        path.write_bytes(content)
        stack: Any = SimpleNamespace(name="rack", salt=b"0" * 32)
        _allowed(lambda: digests.load(path, stack))


def _audit_metrics(content: bytes) -> None:
    monitoring = SimpleNamespace(host="h", audits={"rack": 26})
    stack: Any = SimpleNamespace(name="rack", fleet=SimpleNamespace(monitoring=monitoring, hosts={}))
    with TemporaryDirectory() as directory:
        path = Path(directory, "rack.prom")
        path.write_bytes(content)
        _allowed(lambda: audit_files.read_all(stack, [path]))


def _text(parse: Callable[[str], object]) -> Callable[[bytes], None]:
    return lambda content: _allowed(lambda: parse(content.decode("utf-8", "replace")))


def _lines(names: Mapping[str, list[dict[str, Any]]]) -> list[Any]:
    return [*names.values()]


READERS: Mapping[str, tuple[Callable[[bytes], None], list[Any]]] = {
    "rackwright/tiering/remote.py": (_host, _lines(LINES)),
    "rackwright/kinds/network/unmanaged.py": (_network, [NETPLAN, NETWORKD, IFUPDOWN, *ODD_FILES]),
    "rackwright/endpoints/registry.py": (_registry, [ANSWER]),
    "rackwright/endpoints/oci_archive.py": (_image, [IMAGE]),
    "rackwright/log/entry.py": (
        lambda content: _allowed(lambda: entry.parse_line(content)),
        [
            {
                "entry": {"log": "a", "event": "b", "sequence": 1, "previous": ""},
                "hash": "0",
                "key": "k",
                "signature": "AA",
            }
        ],
    ),
    "rackwright/quarantine/chain.py": (
        lambda content: _allowed(lambda: chain.parse_line(content)),
        [json.loads(verdicts.chain(verdicts.began("gpu-01"))[0])],
    ),
    "rackwright/log/heads.py": (
        lambda content: _allowed(lambda: heads.Head.parse(content)),
        [{"log": "a", "sequence": 1, "hash": "0", "key": "k", "signature": "AA=="}],
    ),
    "rackwright/qualify/bench.py": (_measured, [{"gib_per_second": 1.5}]),
    "rackwright/qualify/dcgm.py": (_text(dcgm.parse), [DIAGNOSIS, {"result": {"runtime_error": "x"}}]),
    "rackwright/qualify/nvbandwidth.py": (_text(nvbandwidth.parse), [RATES]),
    "rackwright/qualify/run.py": (_text(qualification._port), [{"port": 5201}]),
    "rackwright/hosts/pool.py": (_texts, [{"/a": "x", "/b": None}]),
    "rackwright/hosts/session.py": (
        _events,
        [[{"event": "progress", "text": "a"}, {"event": "failed", "reason": "a", "output": ["b"]}], [{"event": "ok"}]],
    ),
    "rackwright/audit/digests.py": (_digests, [{"stack": "rack", "salt_id": "0", "claims": {"a": {"b": {"c": "d"}}}}]),
    "rackwright/status/journal.py": (
        _text(lambda answer: journal.parse(answer, ["a", "b"], 9)),
        ['entry a {"__REALTIME_TIMESTAMP": "1", "MESSAGE": "x", "PRIORITY": "6"}\nfailed b gone\ncut a'],
    ),
    "rackwright/status/audit_files.py": (
        _audit_metrics,
        ['# TYPE a gauge\nrackwright_audit_exit_status{stack="rack"} 1\n'],
    ),
    "rackwright/status/alerts.py": (_alerts, [[ALERT], [SILENCE], {"silenceID": "1"}]),
    "rackwright/endpoints/minio.py": (_rights, [POLICIES, USER]),
    "rackwright/erase/run.py": (_erased, [REPORT, {"failed": "x"}]),
    "rackwright/tiering/canary.py": (_canary, [CANARY]),
    "workloads/federation/messages.py": (
        lambda content: _allowed(lambda: messages.parse(content, Path("transcript.json"), Transcript)),
        [federations.transcript("a").model_dump(mode="json")],
    ),
}
"""A function of foreign bytes for each module, with valid inputs: texts, plain data, or a list of lines of data."""


def _encode(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, list):
        return b"\n".join(map(_encode, value))
    return json.dumps(value).encode()


def check(case: tuple[str, int, Mutations, Mutations, bytes]) -> None:
    name, which, data, raw, noise = case
    read, seeds = READERS[name]
    seed = seeds[which % len(seeds)]
    plain = seed if isinstance(seed, str) else mutated_data(seed, data)
    changed = plain.encode() if isinstance(seed, str) else _encode(plain)
    for content in (changed, mutated_bytes(_encode(seed), raw), mutated_bytes(changed, raw), noise):
        read(content)


def run(count: int, number: int) -> None:
    noise = st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    names = st.sampled_from([*READERS])
    cases(count, number, st.tuples(names, st.integers(0, 99), of_data, of_bytes, noise), check)
