"""The role registry: what it puts on a host, what it refuses, and what its servers answer to whom."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import grpc
import pytest
import yaml

from rackwright.core.repository import Repository
from rackwright.endpoints.oci_archive import open_image
from rackwright.kinds.role.password_hash import bcrypt_hash
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.toolchain.kubernetes import programs
from tests.roles.test_container_runtime import spec as spec_of_engine
from tests.support.expect import eventually
from tests.support.our_roles import REPOSITORY, ROLES
from tests.support.registry import (
    ACCOUNTS,
    ETC,
    PASSWORDS,
    READER,
    SECRETS,
    WRITER,
    Servers,
    files,
    promised,
    servers,
    spec,
    write_image,
)

SOURCE = ROLES["registry"]
NAME = "vision/digits"


def test_passwords_are_on_the_host_only_as_hashes() -> None:
    made = promised()
    written = files(made)

    assert not [path for path, text in written.items() if any(password in text for password in PASSWORDS.values())]
    for path, account in ((f"{ETC}/accounts", WRITER), (f"{ETC}/readers", READER)):
        [line] = written[path].splitlines()
        name, _, digest = line.partition(":")
        assert name == account
        assert bcrypt.checkpw(PASSWORDS[account].encode(), digest.encode())
    assert {(file.mode, file.owner) for file in made.files if file.file in made.secret_files} == {
        ("0640", "root:registry")
    }


def test_the_salt_of_a_hash_depends_on_the_account_and_not_on_the_password() -> None:
    """
    An unchanged declaration has the same file, and the salt reveals nothing of the password.
    """
    one, other = (bcrypt_hash(password, "registry/a", b"key") for password in ("first", "second"))
    end_of_salt = len("$2b$10$") + 22

    assert bcrypt_hash.__wrapped__("first", "registry/a", b"key") == one
    assert one[:end_of_salt] == other[:end_of_salt] and one != other
    assert bcrypt_hash("first", "registry/b", b"key")[:end_of_salt] != one[:end_of_salt]
    assert bcrypt_hash("first", "registry/a", b"yek")[:end_of_salt] != one[:end_of_salt]
    assert bcrypt_hash("x" * 100, "registry/a", b"key"), "a longer text than bcrypt uses"


def test_a_server_that_only_reads_runs_for_declared_readers_alone() -> None:
    with_readers, without = (
        {entry.thing for entry in promised(accounts=accounts).entries} for accounts in (ACCOUNTS, ACCOUNTS[:1])
    )

    assert {"unit:registry-readers.service", "socket:tcp:5001"} <= with_readers
    assert "unit:registry-readers.service" not in without
    assert f"{ETC}/readers.yml" not in files(promised(accounts=ACCOUNTS[:1]))


def test_images_are_deleted_and_layers_removed_only_as_declared() -> None:
    plain, wanted = (files(promised(**each)) for each in ({}, {"deletion": True, "collect": "Sun 03:00"}))
    deletion = [yaml.safe_load(each[f"{ETC}/config.yml"])["storage"]["delete"]["enabled"] for each in (plain, wanted)]

    assert deletion == [False, True]
    assert not [path for path in plain if "collect" in path]
    assert "OnCalendar=Sun 03:00\n" in wanted["/etc/systemd/system/registry-collect.timer"]
    unit = "/etc/systemd/system/registry-collect.service"
    assert "Conflicts=registry.service\n" in wanted[unit] and "--delete-untagged" not in wanted[unit]
    assert "--delete-untagged " in files(promised(collect="daily", collect_untagged=True))[unit]


def test_neither_metrics_nor_a_debug_server_are_configured() -> None:
    for path in ("config.yml", "readers.yml"):
        assert "debug" not in yaml.safe_load(files(promised())[f"{ETC}/{path}"])["http"]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"accounts": ACCOUNTS[1:]}, "got no account that writes"),
        ({"accounts": [ACCOUNTS[0], ACCOUNTS[0]]}, f"got the account {WRITER} more than once"),
        ({"accounts": [{**ACCOUNTS[0], "name": "a:b"}]}, 'got the account "a:b"'),
        ({"accounts": [{**ACCOUNTS[0], "password": "in clear text"}]}, f"got the password of {WRITER} in plain text"),
        ({"certificate": ""}, "got no certificate, or none of its authority"),
        ({"authority": ""}, "got no certificate, or none of its authority"),
        ({"key": ""}, "got no key"),
        ({"key": "in clear text"}, "got the key in plain text"),
        ({"port": 443}, "got 443"),
        ({"read_port": 70000}, "got 70000"),
        ({"read_port": 5000}, "got 5000, as for port"),
        ({"data": "/"}, 'got "/"'),
        ({"collect": "Sun;ExecStart=x"}, 'got "Sun;ExecStart=x"'),
        ({"collect_untagged": True}, "got true without `collect`"),
    ],
)
def test_what_cannot_be_is_refused(variables: dict[str, Any], problem: str) -> None:
    assert list(SOURCE.problems("debian-12", spec(**variables).variables)) == [], "each is of its type"
    assert [each.diagnostic.problem for each in refusals(SOURCE, "debian-12", spec(**variables).variables)] == [problem]


# --- the servers as the role starts them, on loopback


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with servers(tmp_path_factory.mktemp("registry"), deletion=True, collect="daily") as both:
        yield both


def test_a_registry_without_an_image_has_no_layers_to_remove(tmp_path: Path) -> None:
    empty = Servers(tmp_path, {"deletion": True, "collect": "daily"})

    assert empty.run("registry-collect").wait() == 0, empty.log


def request(
    running: Servers, method: str, path: str, account: str = "", password: str = "", port: int = 0, body: bytes = b""
) -> tuple[int, bytes]:
    """Return the status and the body of the answer to one request."""
    context = ssl.create_default_context(cadata=running.authority)
    connection = http.client.HTTPSConnection("127.0.0.1", port or running.port, context=context, timeout=60)
    given = base64.b64encode(f"{account}:{password or PASSWORDS.get(account, '')}".encode()).decode()
    headers = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    connection.request(method, path, body, headers | ({"Authorization": f"Basic {given}"} if account else {}))
    answer = connection.getresponse()
    place = answer.getheader("Location", "").encode()
    content = answer.read()
    connection.close()
    return answer.status, place or content


def push(running: Servers, directory: Path, tag: str = "1", content: bytes = b"program") -> str:
    """Push an image, and return its digest."""
    digest = write_image(directory / "image.tar", content=content)
    with open_image(directory / "image.tar") as image:
        running.client().push(image, NAME, tag, lambda text: None)
    return digest


def test_without_an_account_nothing_is_answered(running: Servers, tmp_path: Path) -> None:
    digest = push(running, tmp_path)
    for port in (running.port, running.read_port):
        for path in ("/v2/", "/v2/_catalog", f"/v2/{NAME}/tags/list", f"/v2/{NAME}/manifests/{digest}"):
            assert request(running, "GET", path, port=port)[0] == 401
            assert request(running, "GET", path, WRITER, "another password", port)[0] == 401
            assert request(running, "GET", path, "stranger", "another password", port)[0] == 401
    assert not [password for password in PASSWORDS.values() if password in running.log]


def test_an_account_that_only_reads_reads_and_changes_nothing(running: Servers, tmp_path: Path) -> None:
    digest = push(running, tmp_path)
    place = f"/v2/{NAME}/manifests/{digest}"
    assert request(running, "GET", place, READER, port=running.read_port)[0] == 200
    for method, path in (("POST", f"/v2/{NAME}/blobs/uploads/"), ("PUT", place), ("DELETE", place)):
        assert request(running, method, path, READER, port=running.read_port)[0] == 405
        assert request(running, method, path, READER)[0] == 401, "the other server does not know it"
        assert request(running, method, path, WRITER, port=running.read_port)[0] == 401


def test_a_damaged_part_is_refused(running: Servers) -> None:
    wanted = f"sha256:{hashlib.sha256(b'whole').hexdigest()}"
    status, place = request(running, "POST", f"/v2/{NAME}/blobs/uploads/", WRITER)
    assert status == 202
    status, body = request(running, "PUT", f"{place.decode()}&digest={wanted}", WRITER, body=b"damaged")

    assert status == 400 and json.loads(body)["errors"][0]["code"] == "DIGEST_INVALID"
    assert request(running, "HEAD", f"/v2/{NAME}/blobs/{wanted}", WRITER)[0] == 404
    assert not running.blob(wanted).exists()


def test_a_manifest_of_missing_parts_is_refused(running: Servers, tmp_path: Path) -> None:
    write_image(tmp_path / "image.tar", content=b"never sent")
    with open_image(tmp_path / "image.tar") as image:
        manifest = image.manifest.content
    assert request(running, "PUT", f"/v2/{NAME}/manifests/2", WRITER, body=manifest)[0] in (400, 404)


def test_nothing_else_listens(running: Servers) -> None:
    listing = subprocess.run(("ss", "-Hltnp"), capture_output=True, text=True, check=True).stdout
    ids = {f"pid={process.pid}," for process in running.processes}
    found = {line.split()[3] for line in listing.splitlines() if any(each in line for each in ids)}

    assert found == {f"127.0.0.1:{port}" for port in (running.port, running.read_port)}


def test_layers_of_deleted_images_are_removed_and_those_of_others_stay(running: Servers, tmp_path: Path) -> None:
    """
    The other server, which runs on, gives the image that stays.
    """
    gone, stays = (push(running, tmp_path / tag, tag, tag.encode()) for tag in ("gone", "stays"))
    assert request(running, "DELETE", f"/v2/{NAME}/manifests/{gone}", WRITER)[0] == 202
    writer, reader = running.processes
    writer.terminate()
    writer.wait()
    assert running.run("registry-collect").wait() == 0, running.log
    running.processes.clear()
    running.start("registry", running.port)
    running.processes.append(reader)

    assert not running.blob(gone).exists() and running.blob(stays).exists()
    for port, account in ((running.port, WRITER), (running.read_port, READER)):
        assert request(running, "GET", f"/v2/{NAME}/manifests/{gone}", account, port=port)[0] == 404
        assert request(running, "GET", f"/v2/{NAME}/manifests/{stays}", account, port=port)[0] == 200
    assert push(running, tmp_path / "gone", "gone", b"gone") == gone, "it can be sent again"
    assert running.blob(gone).exists()


# --- containerd with the files of role container_runtime


def engine_files(running: Servers, directory: Path, password: str) -> Path:
    """Write the files of role container_runtime, with which containerd reaches the registry, below *directory*."""
    registry = {
        "name": f"127.0.0.1:{running.port}",
        "mirrors": [f"127.0.0.1:{running.read_port}"],
        "authority": running.authority,
        "account": {"name": READER, "password": {"secret": "registry_nodes"}},
    }
    variables = {"engine": "containerd", "registries": [registry]}
    values = {**SECRETS, "registry_nodes": password}
    repository = Repository(REPOSITORY.templates, REPOSITORY.roles, REPOSITORY.salt, values)
    assert list(refusals(ROLES["container_runtime"], "debian-12", variables)) == []
    for file in promises(spec_of_engine((), **variables), repository).files:
        if file.file.startswith("/etc/containerd/"):
            place = directory / file.file.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(str(file.content).replace("/etc/", f"{directory}/etc/"))
    return directory / "etc/containerd"


@contextlib.contextmanager
def containerd(directory: Path) -> Iterator[tuple[list[str], str]]:
    """Yield the command line of ctr, and the address of the socket, while containerd runs with the role's files."""
    if (built := programs.found_programs()) is None or os.geteuid() != 0:
        pytest.skip("needs root, and containerd of `rackwright toolchain kubernetes`")
    socket, config = directory / "run" / "c.sock", directory / "etc/containerd/config.toml"
    places = ("--root", directory / "root", "--state", directory / "run", "--address", socket)
    with (directory / "containerd.log").open("wb") as log:
        process = subprocess.Popen([built / "containerd", "--config", config, *places], stdout=log, stderr=log)
    try:
        command = [str(built / "ctr"), "--address", str(socket), "--namespace", "k8s.io"]
        eventually(lambda: subprocess.run([*command, "version"], capture_output=True).returncode == 0, "containerd")
        yield command, f"unix:{socket}"
    finally:
        process.terminate()
        process.wait()


def pull_as_kubelet(address: str, image: str) -> None:
    """Ask containerd for *image* as kubelet does.

    Source: Kubernetes, cri-api, PullImageRequest.
    """
    name = image.encode()
    assert len(name) < 126, "lengths of one byte"
    inner = bytes([0x0A, len(name)]) + name
    with grpc.insecure_channel(address) as channel:
        channel.unary_unary("/runtime.v1.ImageService/PullImage")(bytes([0x0A, len(inner)]) + inner, timeout=120)


@pytest.mark.parametrize("is_kubelet", [False, True], ids=["ctr", "kubelet"])
def test_containerd_pulls_an_image_that_was_pushed(running: Servers, is_kubelet: bool) -> None:
    """
    With the account that only reads, at the port for it, and under the name of the other port.
    """
    for password, succeeds in (("another password", False), (PASSWORDS[READER], True)):
        with tempfile.TemporaryDirectory(prefix="rw-") as name:  # short enough for a socket
            directory = Path(name)
            digest = push(running, directory)
            image = f"127.0.0.1:{running.port}/{NAME}@{digest}"
            files = engine_files(running, directory, password)
            with containerd(directory) as (ctr, address):
                if is_kubelet:
                    with (
                        contextlib.nullcontext()
                        if succeeds
                        else pytest.raises(grpc.RpcError, match="authorization failed")
                    ):
                        pull_as_kubelet(address, image)
                else:
                    argv = [*ctr, "images", "pull", "--hosts-dir", str(files / "certs.d"), image]
                    done = subprocess.run(argv, capture_output=True, text=True)
                    assert (done.returncode == 0) == succeeds, done.stderr
                argv = [*ctr, "images", "list", "--quiet"]
                listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
                assert (image in listed.splitlines()) == succeeds
