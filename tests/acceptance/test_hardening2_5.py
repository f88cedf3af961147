"""Hardening 2, line 5: data of others ends no command, takes no memory without bound, and forges no result."""

import gzip
import io
import json
import lzma
import ssl
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rackwright.endpoints import bounded_session, restore_result, s3_facts
from rackwright.endpoints.oci_archive import open_image
from rackwright.endpoints.registry import RegistryClient
from rackwright.endpoints.s3 import session
from rackwright.errors import UserError
from rackwright.tiering import archive, canary, restore_test
from rackwright.tiering.bucket import Bucket, store_errors
from rackwright.tiering.manifest import Manifest
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.hostile_server import HostileServer, endless, hostile_server, peak_growth_mib, slow, whole
from tests.support.log import Log
from tests.support.object_store import certificates

KEY = "0" * 64
DATE = "Mon, 30 Nov 2026 12:00:00 GMT"
SECRET = "secret-key-of-this-test"
JSON = {
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "deep, closed": b"[" * 100_000 + b"]" * 100_000,
    "at Infinity": b'{"at": Infinity, "passed": true}',
    "at NaN": b'{"at": NaN, "passed": true}',
    "at beyond a double": b'{"at": 1e999, "passed": true}',
    "at of 5,000 digits": b'{"at": ' + b"9" * 5000 + b', "passed": true}',
    "at true": b'{"at": true, "passed": true}',
    "not UTF-8": b'{"at": "\xff"}',
    "UTF-16": '{"at": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"at": 1}',
    "a key twice": b'{"passed": false, "passed": true}',
    "half a pair": rb'{"archive": "\ud800"}',
    "a list": b"[]",
    "a text": b'"a"',
    "null": b"null",
    "a number": b"1",
    "wrong types": b'{"at": [], "passed": {}, "files": [], "sha256": {}, "outputs": [], "manifests": {}}',
    "other wrong types": b'{"weight_map": 1, "errors": 1, "config": [], "layers": {}, "r": "8", "signature": []}',
    "nothing": b"",
    "a list of lists": b'{"manifests": [[]], "files": [[]], "outputs": {"a": {}}, "architectures": [[]]}',
}
"""Texts that no reader may take for a result, manifest, canary, index or configuration."""
BLOCK_1M = b"0" * (1 << 20)
CHUNK = b"100000\r\n" + BLOCK_1M + b"\r\n"
MIB_MAX = 160
"""Most MiB that the readers take for an answer of at most 8 MiB, in this process."""


@line("hardening2", 5, "bucket")
def test_an_object_of_a_bucket_ends_no_command_and_forges_no_result(log: Log, monkeypatch: pytest.MonkeyPatch) -> str:
    """Objects are unknown or damaged with a reason, whatever an account that may write, or the store itself, sends."""
    monkeypatch.setattr(bounded_session, "WAIT_SECONDS", 2)
    monkeypatch.setattr(s3_facts, "OBJECT_SECONDS", 2)
    monkeypatch.setattr("rackwright.tiering.bucket.READ_SECONDS", 2)
    monkeypatch.setattr(bounded_session.BoundedSession.__init__, "__defaults__", (2,))
    number = 0
    with hostile_server() as server, hostile_server() as other:
        client = session("us-east-1", f"http://127.0.0.1:{server.port}", True)("rackwright", SECRET)
        bucket = Bucket("models", client, signing_key=KEY)
        readers = _bucket_readers(bucket)
        for name, answer in _bodies().items():
            server.answer = answer
            for reader, read in readers.items():
                grown = peak_growth_mib(lambda read=read, name=name, reader=reader: _refused(f"{reader}: {name}", read))
                need(grown < MIB_MAX, f"{reader}: {name} takes {grown:.0f} MiB")
                number += 1
        log(f"{number} bodies of objects")
        for name, answer in _listings(other).items():
            server.answer = answer
            grown = peak_growth_mib(lambda name=name: _store_refused(f"a listing: {name}", bucket))
            need(grown < MIB_MAX, f"a listing: {name} takes {grown:.0f} MiB")
            number += 1
        need(not other.requests, "credentials went to another server")
        for name, content, uploaded in _results():
            server.answer = whole(content, Last_Modified=uploaded, ETag='"a"')
            _refused(f"a result: {name}", readers["restore test"])
            number += 1
        now = time.time()
        honest = restore_result.render(KEY, "models", {"at": now, "passed": True})
        server.answer = whole(honest, Last_Modified=_http_date(now), ETag='"a"')
        found = s3_facts._restore_test(client, KEY, "models")
        need(found == {"at": now, "passed": True}, f"the honest result is not read: {found}")
    return f"{number} hostile answers are refused or unknown within {MIB_MAX} MiB; a signed result is read"


def _bucket_readers(bucket: Bucket) -> dict[str, Callable[[], Any]]:
    made = Manifest(name="model-1", files=(), canary="0" * 64)

    def result() -> Any:
        found = s3_facts._restore_test(bucket.client, KEY, "models")
        need(found is None or found.keys() == {"unknown"}, f"it is believed: {found}")
        raise LookupError(found)

    def manifest() -> Any:
        with store_errors(bucket):
            return archive.find_manifest(bucket, "model-1")

    def outputs() -> Any:
        with store_errors(bucket):
            return canary.find(bucket, made)

    return {"restore test": result, "manifest": manifest, "canary": outputs}


def _refused(name: str, read: Callable[[], Any]) -> None:
    """Need that *read* ends in a refusal of ours, or in unknown."""
    try:
        found = read()
    except (UserError, LookupError):
        return
    except Exception as error:
        need(False, f"{name}: {type(error).__name__}: {error}")
    need(False, f"{name} is read as {str(found)[:80]}")


def _store_refused(name: str, bucket: Bucket) -> None:
    def read() -> None:
        with store_errors(bucket):
            bucket.client.list_objects_v2(Bucket="models")

    _refused(name, read)


def _bodies() -> Mapping[str, Callable[[Any], None]]:
    head = f'HTTP/1.1 200 OK\r\nLast-Modified: {DATE}\r\nETag: "a"\r\n'.encode()
    zipped = gzip.compress(json.dumps({"at": time.time(), "passed": True, "files": []}).encode())
    return {
        **{name: whole(body, Last_Modified=DATE, ETag='"a"') for name, body in JSON.items()},
        "400 MB": endless(head + b"Content-Length: 419430400\r\n\r\n"),
        "400 MB without a length": endless(head + b"\r\n"),
        "chunks of 400 MB": endless(head + b"Transfer-Encoding: chunked\r\n\r\n", CHUNK),
        "a gzip that expands": whole(gzip.compress(bytes(200 << 20)), Last_Modified=DATE, Content_Encoding="gzip"),
        "a gzip": whole(zipped, Last_Modified=DATE, Content_Encoding="gzip"),
        "a byte at a time": slow(head + b"Content-Length: 60000\r\n\r\n"),
        "a head that comes a byte at a time": slow(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        "a body that is cut": lambda connection: connection.sendall(head + b'Content-Length: 999\r\n\r\n{"at"'),
        "a negative length": lambda connection: connection.sendall(head + b"Content-Length: -1\r\n\r\n{}"),
        "10,000 headers": endless(b"HTTP/1.1 200 OK\r\n", b"X-Flood: a\r\n", 10_000),
        "a header of 100 MB": endless(b"HTTP/1.1 200 OK\r\nX-Flood: ", BLOCK_1M, 100),
        "no date of the upload": whole(b"{}"),
        "no HTTP": lambda connection: connection.sendall(b"\x00" * 1000),
    }


def _listings(other: HostileServer) -> Mapping[str, Callable[[Any], None]]:
    """Return answers of a hostile store, whose XML botocore parses, or which send the client elsewhere."""
    place = f"http://127.0.0.1:{other.port}/models"
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a0 "aaaaaaaaaa">{entities}]><a>&a9;</a>'
    ebcdic = b'<?xml version="1.0" encoding="cp037"?>' + bomb.encode("cp037")
    error = b"<Error><Code>%s</Code><Message>m</Message><Region>eu-1</Region><Endpoint>%s</Endpoint></Error>"
    elsewhere = error % (b"PermanentRedirect", f"127.0.0.1:{other.port}".encode())
    return {
        "entities": whole(bomb.encode()),
        "entities in UTF-16": whole(bomb.encode("utf-16")),
        "entities in EBCDIC": whole(ebcdic),
        "a file as an entity": whole(b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'),
        "deep elements": whole(b"<a>" * 300_000),
        "many elements": whole(b"<ListBucketResult>" + b"<a/>" * 2_000_000 + b"</ListBucketResult>"),
        "400 MB of XML": endless(b"HTTP/1.1 200 OK\r\n\r\n<ListBucketResult>"),
        "400 MB in an error": endless(b"HTTP/1.1 500 No\r\n\r\n<Error>"),
        "a listing, a byte at a time": slow(b"HTTP/1.1 200 OK\r\n\r\n<ListBucketResult>"),
        "a redirect": whole(b"", "301 Moved", Location=place, x_amz_bucket_region="eu-1"),
        "a temporary redirect": whole(elsewhere, "307 Moved", Location=place, x_amz_bucket_region="eu-1"),
        "another region": whole(elsewhere, "301 Moved", x_amz_bucket_region=f"127.0.0.1:{other.port}/"),
        "another region in the body": whole(error % (b"AuthorizationHeaderMalformed", b""), "400 No"),
        "a region that is a host": whole(elsewhere, "400 No", x_amz_bucket_region=f"a@127.0.0.1:{other.port}#"),
        "no XML": whole(b"{}"),
    }


def _results() -> Iterator[tuple[str, bytes, str]]:
    """Yield results of a restore test that the account that manages the store has not noted for this bucket now."""
    now = time.time()
    passed = {"archive": "model-1", "at": now, "passed": True}
    today = _http_date(now)
    signed = json.loads(restore_result.render(KEY, "models", passed))
    failed = json.loads(restore_result.render(KEY, "models", {**passed, "passed": False}))
    yield "not signed", json.dumps({**passed, "bucket": "models"}).encode(), today
    yield "another key", restore_result.render("1" * 64, "models", passed), today
    yield "an empty key", restore_result.render("", "models", passed), today
    yield "of another bucket", restore_result.render(KEY, "backups", passed), today
    yield "of another bucket, renamed", json.dumps({**signed, "bucket": "backups"}).encode(), today
    yield "the failed one, changed", json.dumps({**failed, "passed": True}).encode(), today
    yield "a later time", json.dumps({**signed, "at": now + 1}).encode(), today
    yield "a value more", json.dumps({**signed, "more": 1}).encode(), today
    yield "a signature of another type", json.dumps({**signed, "signature": [signed["signature"]]}).encode(), today
    yield "a signature that is no ASCII", json.dumps({**signed, "signature": "é"}).encode(), today
    yield "a copy of an earlier one", json.dumps(signed).encode(), _http_date(now + 3600)
    before = restore_result.render(KEY, "models", {**passed, "at": now - 30 * 86400})
    yield "one of the last month, again", before, today
    after = restore_result.render(KEY, "models", {**passed, "at": now + 365 * 86400})
    yield "one of the next year", after, today


def _http_date(at: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(at))


@line("hardening2", 5, "registry")
def test_a_hostile_registry_takes_neither_memory_nor_time(log: Log, tmp_path: Path) -> str:
    """A push ends with an error of ours, within its time and little memory, whatever the registry answers."""
    authority = certificates(tmp_path, ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "host.crt", tmp_path / "host.key")
    _write_image(tmp_path / "image.tar")
    ok, accepted = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 202 Accepted\r\n"
    length = b"Content-Length: 419430400\r\n\r\n"
    number = 0
    with hostile_server(context) as server, hostile_server(context) as other:
        url = f"https://127.0.0.1:{server.port}"
        client = RegistryClient(url, authority["authority.crt"], "writer", SECRET, answer_seconds=2)
        place = f"https://127.0.0.1:{other.port}/v2/"
        answers = {
            "400 MB": endless(b"HTTP/1.1 404 No\r\n" + length),
            "400 MB accepted": endless(accepted + length),
            "400 MB without a length": endless(b"HTTP/1.1 500 No\r\n\r\n"),
            "chunks": endless(
                b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + BLOCK_1M + b"\r\n"
            ),
            "a byte at a time": slow(b"HTTP/1.1 500 No\r\nContent-Length: 60000\r\n\r\n"),
            "a byte at a time without a length": slow(b"HTTP/1.1 500 No\r\n\r\n"),
            "a head, a byte at a time": slow(ok + b"X-Slow: "),
            "100 Continue for ever": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 100_000_000),
            "100 Continue, slowly": slow(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            "10,000 headers": endless(ok, b"X-Flood: a\r\n", 10_000),
            "a header of 100 MB": endless(ok + b"X-Flood: ", BLOCK_1M, 100),
            "a gzip that expands": whole(gzip.compress(bytes(60 << 20)), "500 No", Content_Encoding="gzip"),
            "a redirect": whole(b"", "307 Moved", Location=place),
            "parts elsewhere": whole(b"", "202 Accepted", Location=place),
            "a negative length": lambda connection: connection.sendall(ok + b"Content-Length: -5\r\n\r\n"),
            "a size of 5,000 digits": lambda c: c.sendall(ok + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"),
            "no HTTP": lambda connection: connection.sendall(b"\x00" * 1000),
            **{f"errors: {name}": whole(body, "500 No") for name, body in JSON.items()},
            "control characters": whole(b'{"errors": [{"code": "\\u001b]52;c", "message": "\\n[31m"}]}', "500 No"),
            "a long message": whole(json.dumps({"errors": [{"code": "A" * 60_000, "message": ""}]}).encode(), "500 No"),
        }
        for name, answer in answers.items():
            server.answer = answer
            texts: list[str] = []
            grown = peak_growth_mib(lambda name=name, texts=texts: texts.append(_push(name, client, tmp_path)))
            need(grown < MIB_MAX, f"{name} takes {grown:.0f} MiB")
            need(len(texts[0]) < 1500 and "\x1b" not in texts[0], f"{name}: the error is {texts[0][:200]!r}")
            number += 1
        need(not other.requests, "the password went to another server")
    return f"{number} hostile answers end the push with an error within {MIB_MAX} MiB; none got the password elsewhere"


def _push(name: str, client: RegistryClient, directory: Path) -> str:
    began = time.monotonic()
    try:
        with open_image(directory / "image.tar") as image:
            client.push(image, "vision/digits", "1", lambda text: None)
    except UserError as error:
        need(time.monotonic() - began < 60, f"{name}: the push goes on for {time.monotonic() - began:.0f} s")
        return error.render()
    except Exception as error:
        need(False, f"{name}: {type(error).__name__}: {error}")
    need(False, f"{name}: the push is done")
    return ""


def _write_image(path: Path, index: bytes | None = None) -> None:
    from tests.support.registry import write_image

    write_image(path)
    if index is not None:
        with tarfile.open(path, "w") as file:
            member = tarfile.TarInfo("index.json")
            member.size = len(index)
            file.addfile(member, io.BytesIO(index))


@line("hardening2", 5, "archive")
def test_a_hostile_archive_is_a_failed_test_and_a_refused_image(log: Log, tmp_path: Path) -> str:
    """Each file of an archive that cannot be loaded fails the restore test, and each wrong image is refused."""
    number = 0
    for name, content in _hostile_files():
        suffix = name.partition(": ")[0]
        path = tmp_path / f"file{suffix}"
        path.write_bytes(content)
        problems: list[str] = []
        grown = peak_growth_mib(
            lambda path=path, problems=problems: problems.append(restore_test.load_problem(tmp_path, path.name))
        )
        need(grown < 300, f"{name} takes {grown:.0f} MiB")
        need(problems[0].startswith(f"{path.name} cannot be loaded: "), f"{name}: {problems[0]!r}")
        need(len(problems[0]) < 400 and problems[0].isprintable(), f"{name}: {problems[0]!r}")
        number += 1
    images = 0
    for name, index in {**JSON, **_indexes()}.items():
        _write_image(tmp_path / "image.tar", index)
        for path in (tmp_path / "image.tar", tmp_path / "layout"):
            (tmp_path / "layout").mkdir(exist_ok=True)
            (tmp_path / "layout/index.json").write_bytes(index)
            _refused(f"an image, {name}", lambda path=path: open_image(path).__enter__())
            images += 1
    return f"{number} files fail the restore test with a reason, and {images} images are refused"


def _safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def _hostile_files() -> Iterator[tuple[str, bytes]]:
    """Yield files with their ending; none of them can be loaded."""
    for name in ("deep lists", "deep objects", "deep, closed", "at of 5,000 digits", "not UTF-8", "UTF-16", "nothing"):
        yield f".json: {name}", JSON[name]
    for name, body in JSON.items():
        yield f".safetensors: {name}", _safetensors(body)
    for name, body in {
        "a list as header": b"[]", "a number": b"1", "null": b"null", "short offsets": b'{"a": {"data_offsets": [1]}}',
        "a tensor of a list": b'{"a": []}', "texts as offsets": b'{"a": {"data_offsets": ["0", "1"]}}',
        "no offsets": b'{"a": {}}', "a huge offset": b'{"a": {"data_offsets": [0, ' + b"9" * 40 + b"]}}",
        "a truth value": b'{"a": {"data_offsets": [0, true]}}', "NaN": b'{"a": {"data_offsets": [0, NaN]}}',
        "10 million values": b'{"a": [' + b"0," * 10_000_000 + b"0]}",
    }.items():  # fmt: skip
        yield f".safetensors: {name}", _safetensors(body)
    yield ".safetensors: a length of 2^63", struct.pack("<Q", 1 << 63)
    yield ".safetensors: cut", b"\x01"
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as file:
        file.addfile(tarfile.TarInfo("w"), io.BytesIO())
    for name, pack in (("gzip", gzip.compress), ("xz", lzma.compress)):
        yield f".tar: {name}", pack(plain.getvalue())
        yield f".tar: {name}, cut", pack(plain.getvalue())[:-6]
        yield f".tar: {name} that expands", pack(bytes(50 << 20))
    for name, kind in (("a long name", b"L"), ("a long link", b"K"), ("a pax header", b"x"), ("a global header", b"g")):
        yield f".tar: {name} of 64 MB", _tar_header(kind, 64 << 20) + bytes(64 << 20)
    yield ".tar: a size of 2^60", _tar_header(b"L", 1 << 60)
    yield ".tar: no archive", b"no archive"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive_file:
        archive_file.writestr("w.npy", b"weights" * 100)
    whole_zip = packed.getvalue()
    yield ".zip: damaged", whole_zip.replace(b"weights", b"weighty", 1)
    place = whole_zip.rindex(b"PK\x01\x02")
    yield ".npz: encrypted", whole_zip[: place + 8] + b"\x01" + whole_zip[place + 9 :]
    yield ".pt: another method", whole_zip[: place + 10] + b"\x63\x00" + whole_zip[place + 12 :]
    end = whole_zip.rindex(b"PK\x05\x06")
    yield ".zip: a directory elsewhere", whole_zip[: end + 16] + b"\xff\xff\xff\x7f" + whole_zip[end + 20 :]
    yield ".zip: no archive", b"PK" * 1000
    for name, method in (("bzip2", zipfile.ZIP_BZIP2), ("LZMA", zipfile.ZIP_LZMA)):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as archive_file:
            archive_file.writestr("w", bytes(100 << 20))
        yield f".zip: {name} that expands", packed.getvalue()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive_file, archive_file.open("w", "w") as member:
        for _ in range(1500):
            member.write(bytes(1 << 20))
    yield ".zip: 1.5 GiB of zeros", packed.getvalue()


def _tar_header(kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo("a")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def _indexes() -> Mapping[str, bytes]:
    digest = "sha256:" + "0" * 64
    entry = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 2}
    changes: dict[str, Any] = {
        "no such blob": {}, "a path as digest": {"digest": "sha256:../../../etc/passwd"},
        "a list as digest": {"digest": []},
        "a line in the media type": {"mediaType": "a/b\r\nX-Evil: 1"}, "a text as size": {"size": "2"},
        "a negative size": {"size": -1}, "a fraction": {"size": 2.5}, "a size of 30 digits": {"size": 10**30},
        "a truth value as media type": {"mediaType": True},
    }  # fmt: skip
    return {
        "no manifests": b"{}",
        "two images": json.dumps({"manifests": [entry, entry]}).encode(),
        "10 million manifests": b'{"manifests": [' + b"0," * 10_000_000 + b"0]}",
        **{name: json.dumps({"manifests": [entry | change]}).encode() for name, change in changes.items()},
    }


@line("hardening2", 5, "model")
def test_a_hostile_model_is_refused(log: Log, tmp_path: Path) -> str:
    """Configurations, indexes and weights of a model, and adapters, end no command with a traceback."""
    from workloads.serving import fit
    from workloads.serving.vllm import publish_vllm, read_object, weight_files

    number = 0
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.safetensors").write_bytes(_safetensors(b"{}"))
    config = {"architectures": ["Qwen2ForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 8}

    def publish() -> Any:
        return publish_vllm(source, "m", None, tmp_path / "out", replace=True)

    for name, body in JSON.items():
        (source / "config.json").write_bytes(body)
        grown = peak_growth_mib(
            lambda name=name: _refused(
                f"config.json, {name}", lambda: publish_vllm(source, "m", None, tmp_path / "out")
            )
        )
        need(grown < MIB_MAX, f"config.json, {name} takes {grown:.0f} MiB")
        (source / "model.safetensors.index.json").write_bytes(body)
        _refused(f"the index, {name}", lambda: weight_files(source))
        (source / "model.safetensors.index.json").unlink()
        (source / "model.safetensors").write_bytes(_safetensors(body))
        _refused(f"the weights, {name}", lambda: fit.read_tensors([source / "model.safetensors"]))
        number += 3
    wrong: dict[str, Any] = {
        "architectures": [1, {}, [], [[]], [None], {"a": 1}, "\x1b]52;"],
        "hidden_size": [10**39, -1, True, [], {}, "8", 1e300],
        "num_hidden_layers": [10**12, 0, [], float("inf")], "torch_dtype": [[], {}, 1, "a" * 10_000],
        "text_config": [{"hidden_size": 10**39}],
        "quantization_config": [{"quant_method": [], "weight_block_size": [[]]}],
    }  # fmt: skip
    for key, values in wrong.items():
        for value in values:
            (source / "config.json").write_text(json.dumps({**config, key: value}))
            _refused(f"{key} {str(value)[:40]}", publish)
            number += 1
    (source / "config.json").write_bytes(b'{"a": "' + b"0" * (300 << 20) + b'"}')
    grown = peak_growth_mib(lambda: _refused("300 MB", lambda: read_object(source / "config.json")))
    need(grown < 2 * MIB_MAX, f"300 MB take {grown:.0f} MiB")
    return f"{number + 1} configurations, indexes and weights are refused"
