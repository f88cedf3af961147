"""The client that sends images to a registry, against the real program and against one that answers wrongly."""

import contextlib
import hashlib
import json
import ssl
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rackwright.endpoints.oci_archive import open_image
from rackwright.endpoints.registry import PushResult, RegistryClient
from rackwright.errors import ChangeRefused, DeclarationError, EndpointUnreachable, StepFailed
from tests.support.cut_network import CutNetwork
from tests.support.hostile_server import Answer, endless, hostile_server, slow, whole
from tests.support.object_store import certificates
from tests.support.registry import READER, WRITER, Servers, servers, write_image, write_images

NAME = "vision/digits"


def silent(text: str) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with servers(tmp_path_factory.mktemp("registry")) as both:
        yield both


def push(client: RegistryClient, path: Path, name: str = NAME) -> PushResult:
    with open_image(path) as image:
        return client.push(image, name, "1", silent)


def test_an_image_is_sent_once(running: Servers, tmp_path: Path) -> None:
    digest = write_image(tmp_path / "image.tar")
    first, second = (push(running.client(), tmp_path / "image.tar", "once") for _ in range(2))

    assert first == PushResult(f"127.0.0.1:{running.port}/once@{digest}", sent=2, present=0)
    assert second == PushResult(first.reference, sent=0, present=2)
    manifest = json.loads(running.blob(digest).read_bytes())
    for part in (manifest["config"], *manifest["layers"]):
        assert hashlib.sha256(running.blob(part["digest"]).read_bytes()).hexdigest() in part["digest"]


def test_a_directory_is_read_as_an_archive_is(running: Servers, tmp_path: Path) -> None:
    digest = write_image(tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:
        archive.extractall(tmp_path / "layout", filter="data")

    assert push(running.client(), tmp_path / "layout").reference.endswith(digest)


def test_an_index_brings_the_images_of_all_platforms(running: Servers, tmp_path: Path) -> None:
    """
    An image of one platform is found by the digest that the index names.
    """
    digests = write_images(tmp_path / "images.tar", ["example.invalid/one:1", "example.invalid/two:2"], b"platforms")
    layout = tmp_path / "layout"
    with tarfile.open(tmp_path / "images.tar") as archive:
        archive.extractall(layout, filter="data")
    index = (layout / "index.json").read_bytes()
    digest = hashlib.sha256(index).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(index)
    media_type = "application/vnd.oci.image.index.v1+json"
    root = {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(index)}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    # the images are the same, so that their parts are sent once
    assert push(running.client(), layout) == PushResult(f"127.0.0.1:{running.port}/{NAME}@sha256:{digest}", 2, 0)
    assert all(running.blob(each).exists() for each in digests.values())


def test_a_push_that_was_cut_continues_with_the_parts_that_are_missing(running: Servers, tmp_path: Path) -> None:
    content = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(1 << 15))  # it stays 1 MiB
    write_image(tmp_path / "image.tar", content=content)
    with CutNetwork(running.port) as network:
        client = running.client(port=int(network.url.rpartition(":")[2]))
        network.cut_after(200_000)  # the configuration and a part of the layer
        with pytest.raises(EndpointUnreachable, match=r"no answer: .*parts that were sent stay"):
            push(client, tmp_path / "image.tar", "cut")
        network.mend()
        assert push(client, tmp_path / "image.tar", "cut").present == 1


@pytest.mark.parametrize(
    ("account", "password", "is_read_port"),
    [(WRITER, "another password", False), ("unknown", "a password", False), (WRITER, "", True)],
)
def test_an_account_that_may_not_write_is_refused(
    running: Servers, tmp_path: Path, account: str, password: str, is_read_port: bool
) -> None:
    write_image(tmp_path / "image.tar", content=b"refused")
    client = running.client(account, password, running.read_port if is_read_port else 0)
    with pytest.raises(ChangeRefused, match=f"the registry refuses the account {account}"):
        push(client, tmp_path / "image.tar")


def test_the_server_that_only_reads_takes_nothing(running: Servers, tmp_path: Path) -> None:
    write_image(tmp_path / "image.tar", content=b"read only")
    with pytest.raises(StepFailed, match="the registry refused to begin to send a part"):
        push(running.client(READER, port=running.read_port), tmp_path / "image.tar")


def test_a_part_that_is_damaged_in_the_registry_is_found(running: Servers, tmp_path: Path) -> None:
    digest = write_image(tmp_path / "image.tar", content=b"damaged later")
    push(running.client(), tmp_path / "image.tar")
    layer = json.loads(running.blob(digest).read_bytes())["layers"][0]["digest"]
    running.blob(layer).write_bytes(b"cut")
    with pytest.raises(StepFailed, match=f"the registry has {layer} with 3 bytes"):
        push(running.client(), tmp_path / "image.tar")


def test_a_certificate_of_another_authority_is_not_trusted(running: Servers, tmp_path: Path) -> None:
    write_image(tmp_path / "image.tar")
    other = certificates(tmp_path, ["127.0.0.1"])["authority.crt"]
    client = RegistryClient(f"https://127.0.0.1:{running.port}", other, WRITER, "a password")
    with pytest.raises(EndpointUnreachable, match="certificate verify failed"):
        push(client, tmp_path / "image.tar")


# --- archives


def test_a_damaged_archive_is_refused_before_anything_is_sent(running: Servers, tmp_path: Path) -> None:
    digest = write_image(tmp_path / "image.tar", content=b"intact")
    layout = tmp_path / "layout"
    with tarfile.open(tmp_path / "image.tar") as archive:
        archive.extractall(layout, filter="data")
    manifest = layout / "blobs" / digest.replace(":", "/")
    layer = json.loads(manifest.read_bytes())["layers"][0]["digest"]
    (layout / "blobs" / layer.replace(":", "/")).write_bytes(b"other")
    with pytest.raises(DeclarationError, match=f"a part has 5 bytes .*{layer}"):
        push(running.client(), layout)
    assert not running.blob(layer).exists()
    (layout / "blobs" / layer.replace(":", "/")).unlink()
    with pytest.raises(DeclarationError, match=f"{layer} is missing"):
        push(running.client(), layout)
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(DeclarationError, match=digest), open_image(layout):
        pass


@pytest.mark.parametrize("names", [[], ["example.invalid/one:1", "example.invalid/two:2"]])
def test_an_archive_has_one_image(tmp_path: Path, names: list[str]) -> None:
    write_images(tmp_path / "images.tar", names)
    wanted = pytest.raises(DeclarationError, match="it has no such image; one image in the layout")
    with wanted, open_image(tmp_path / "images.tar"):
        pass


@pytest.mark.parametrize("entry", [{"digest": "sha256:../../../../etc/passwd"}, {"digest": "md5:0"}, {}, 1])
def test_a_digest_is_no_path(tmp_path: Path, entry: Any) -> None:
    index = entry if not isinstance(entry, dict) else {"mediaType": "m", "size": 1, **entry}
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [index]}))
    with pytest.raises(DeclarationError, match="it has no such image"), open_image(tmp_path):
        pass


def test_a_missing_archive_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="No such file"), open_image(tmp_path / "missing.tar"):
        pass


# --- a registry that answers wrongly


@contextlib.contextmanager
def stand_in(directory: Path, headers: dict[str, str]) -> Iterator[tuple[RegistryClient, list[str]]]:
    """Yield the client of a server that lacks each part and accepts it with *headers*, and the paths of parts."""
    accepted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {"Location": "/upload?state=1", **headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def do_HEAD(self) -> None:
            self._answer(404)

        def do_POST(self) -> None:
            self._answer(202)

        def do_PUT(self) -> None:
            accepted.append(self.path)
            self._answer(201)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    pem = certificates(directory, ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "host.crt", directory / "host.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            url = f"https://127.0.0.1:{server.server_address[1]}"
            yield RegistryClient(url, pem["authority.crt"], WRITER, "a password"), accepted
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Location": "https://other.example/upload"}, "the registry wants parts at other.example"),
        ({"Location": "http://127.0.0.1/upload"}, "the registry wants parts at 127.0.0.1"),
        ({"Docker-Content-Digest": f"sha256:{'0' * 64}"}, f"the registry answers with the digest sha256:{'0' * 64}"),
        ({"Location": "https://["}, "the registry wants parts at https://\\[, which is no address"),
        ({"Location": "//[::1"}, "which is no address"),
        ({"Location": "/v2/\xe9"}, "which is no address"),
        ({"Location": "/v2/a b"}, "which is no address"),
        ({"Location": "https://a\u212d/x".encode().decode("latin-1")}, "which is no address"),
        ({}, "the registry answers with the digest None"),
    ],
)
def test_a_wrong_answer_ends_the_push(tmp_path: Path, headers: dict[str, str], expected: str) -> None:
    """
    The password is never sent to another server.
    """
    write_image(tmp_path / "image.tar")
    with stand_in(tmp_path, headers) as (client, accepted):
        with pytest.raises(StepFailed, match=expected):
            push(client, tmp_path / "image.tar")
        assert len(accepted) == (0 if "Location" in headers else 1), "nothing is sent after a wrong answer"


@pytest.mark.parametrize(
    "answer",
    [
        endless(b"HTTP/1.1 404 No\r\nContent-Length: 419430400\r\n\r\n", blocks=20),
        endless(b"HTTP/1.1 500 No\r\n\r\n", blocks=20),
        slow(b"HTTP/1.1 500 No\r\nContent-Length: 60000\r\n\r\n"),
        slow(b"HTTP/1.1 500 No\r\nX-Slow: "),
        slow(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        whole(b"[" * 60_000, "500 No"),
        whole(b'{"errors": [[]]}', "500 No"),
        whole(b'{"errors": [{"code": "\\u001b]52;c", "message": "a\\nforged"}]}', "500 No"),
    ],
)
def test_a_hostile_answer_ends_the_push_in_time(tmp_path: Path, answer: Answer) -> None:
    """
    A byte at a time keeps each time limit of a socket.
    """
    write_image(tmp_path / "image.tar")
    authority = certificates(tmp_path, ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "host.crt", tmp_path / "host.key")
    with hostile_server(context) as server:
        server.answer = answer
        url = f"https://127.0.0.1:{server.port}"
        client = RegistryClient(url, authority["authority.crt"], "writer", "password-of-this-test", answer_seconds=1)
        with pytest.raises((EndpointUnreachable, StepFailed)) as ended:
            push(client, tmp_path / "image.tar")

    text = ended.value.render()
    assert "\x1b" not in text and "\nforged" not in text and len(text) < 1500
