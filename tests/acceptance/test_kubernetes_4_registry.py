"""Line 4, registry: images that are pushed to a host of the rack, and pulled by its engine, by digest."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rackwright.schema.secret import derive_value
from tests.support import leaks
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.object_store import certificates
from tests.support.registry import ACCOUNTS, READER, SECRETS, WRITER, write_image

HOST, ADDRESS = "cedar", "10.145.0.11"
ROLE, ENGINE = f"{HOST}/registry", f"{HOST}/container_runtime"
STORE = "/srv/warm/registry/docker/registry/v2/blobs/sha256"
BREAKS = {
    "file:/etc/rackwright/registry/accounts": "echo 'guest:$2b$10$x' >> /etc/rackwright/registry/accounts",
    "file:/etc/rackwright/registry/readers": "chmod 0644 /etc/rackwright/registry/readers",
    "file:/etc/rackwright/registry/config.yml": (
        "sed -i 's/^http:/http:\\n  debug: {addr: \"127.0.0.1:5099\"}/' /etc/rackwright/registry/config.yml"
    ),
    "file:/etc/rackwright/registry/readers.yml": (
        "sed -i 's/enabled: true/enabled: false/' /etc/rackwright/registry/readers.yml"
    ),
    "file:/etc/rackwright/registry/tls.crt": "rm /etc/rackwright/registry/tls.crt",
    "file:/etc/systemd/system/registry.service": "echo '# by hand' >> /etc/systemd/system/registry.service",
    "group:registry": "gpasswd --add nobody registry",
    "unit:registry-readers.service": "systemctl --now disable registry-readers.service",
    "unit:registry-collect.timer": "systemctl --now disable registry-collect.timer",
    "package:distribution-registry": "apt-mark unhold distribution-registry",
}
"""Changes by hand, by the claim that finds each."""
CURL = "curl --silent --cacert /run/authority.crt --output /dev/null --write-out '%{http_code}'"


def fleet(pem: dict[str, str]) -> dict[str, Any]:
    """Return the declaration of a host with a registry, whose engine pulls from it."""
    registry = {
        "address": ADDRESS,
        "data": {"tier": "warm"},
        "accounts": ACCOUNTS,
        "certificate": pem["host.crt"],
        "key": {"secret": "registry_tls"},
        "authority": pem["authority.crt"],
        "deletion": True,
        "collect": "Sun 03:00",
    }
    source = {
        "name": f"{ADDRESS}:5000",
        "mirrors": [f"{ADDRESS}:5001"],
        "authority": pem["authority.crt"],
        "account": {"name": READER, "password": {"secret": f"registry_{READER}"}},
    }
    engine = {"engine": "containerd", "version": "2.4.2", "registries": [source], "pull": True}
    return {
        "fleet": "registry",
        "mirror": {},
        "hosts": {
            HOST: {
                "profile": "virtual",
                "os": "debian-12",
                "network": {},
                "tiers": {"warm": {"provided": True, "mount": "/srv/warm"}},
                "address": "10.45.0.11",
                "identity": {"serial": "REGISTRY-1"},
                "nics": [{"name": "fabric0", "mac": "52:54:00:00:45:01", "addresses": [f"{ADDRESS}/24"]}],
                "roles": {
                    "base": {"security_updates": False, "packages": ["curl"]},
                    "registry": registry,
                    "container_runtime": engine,
                },
            }
        },
    }


@contextmanager
def registry_lab(log: Log) -> Iterator[Lab]:
    """Yield a lab whose host has the registry."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    directory = log.empty_directory()
    pem = certificates(directory, [ADDRESS])
    with Lab(directory / "project", json.dumps(fleet(pem)), log, "registry", containers=[HOST]) as lab:
        lab.pulumi("stack", "init", status=0)
        lab.set_secret("registry_tls", pem["host.key"])
        for name in ("registry", "kubernetes"):
            lab.rackwright("toolchain", name, status=0)
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        lab.start()
        lab.up()
        lab.ssh(HOST, f"cat > /run/authority.crt << 'END'\n{pem['authority.crt']}END")
        yield lab


@line("kubernetes", 4, part="registry")
def test_an_image_that_was_pushed_is_pulled_by_its_digest(log: Log) -> str:
    """Push, pull by containerd, accounts, removal of layers, and claims that were broken by hand."""
    with registry_lab(log) as lab:
        need(not lab.differing(), "something differs after `up`")
        log("pushing an image")
        reference, digest = _push(lab, "1", b"first", sent=2)
        _push(lab, "1", b"first", sent=0)
        _need_refused(lab)
        log("pulling it")
        lab.edit(lambda each: each["hosts"][HOST]["roles"]["container_runtime"].update(images=[reference]))
        need(lab.audit_differences() == {(ENGINE, f"image:{reference}")}, "the image is there before it was pulled")
        lab.up()
        need(not lab.differing(), "the image was not pulled")
        need(reference in lab.ssh(HOST, "ctr --namespace k8s.io images list --quiet"), "containerd lacks the image")
        log("the server that only reads")
        _need_read_only(lab, digest)
        log("removing the layers of a deleted image")
        _need_collected(lab, digest)
        log("changes by hand")
        for command in BREAKS.values():
            lab.ssh(HOST, command)
        found = lab.differing()
        missed = {(ROLE, thing) for thing in BREAKS} - found
        need(not missed, f"not found: {format_claims(missed)}")
        lab.up()
        need(not lab.differing(), "something differs after it was mended")
        need(_status(lab, WRITER, f"/v2/digits/manifests/{digest}") == "200", "the image is not there after all that")
        _need_no_password(lab)
    return f"pushed, pulled and removed by digest; {len(BREAKS)} changes by hand found and mended"


def _push(lab: Lab, tag: str, content: bytes, sent: int) -> tuple[str, str]:
    """Push an image with *content*, and return its name with the digest, and the digest."""
    archive = lab.directory / "image.tar"
    digest = write_image(archive, content=content)
    arguments = (lab.stack, str(archive), f"digits:{tag}", "--account", WRITER, "--json")
    pushed = json.loads(lab.rackwright("registry", "push", *arguments, status=0).stdout)
    need(pushed["image"] == f"{ADDRESS}:5000/digits@{digest}" and pushed["sent"] == sent, f"pushed: {pushed}")
    return pushed["image"], digest


def _need_refused(lab: Lab) -> None:
    """Fail the test unless a wrong password is refused."""
    lab.environment["RACKWRIGHT_REGISTRY_PASSWORD"] = "another password"
    arguments = (lab.stack, str(lab.directory / "image.tar"), "digits:1", "--account", WRITER)
    done = lab.rackwright("registry", "push", *arguments, status=2)
    del lab.environment["RACKWRIGHT_REGISTRY_PASSWORD"]
    need(f"the registry refuses the account {WRITER}" in done.stderr, done.stderr)


def _status(lab: Lab, account: str, path: str, *options: str, port: int = 5000) -> str:
    """Return the status with which the registry answers."""
    password = derive_value(f"registry_{account}")
    accepted = "--header 'Accept: application/vnd.oci.image.manifest.v1+json'"
    command = f"{CURL} {accepted} {' '.join(options)} --config - https://{ADDRESS}:{port}{path}"
    return lab.ssh(HOST, f"echo 'user = \"{account}:{password}\"' | {command}").strip()


def _need_read_only(lab: Lab, digest: str) -> None:
    """Fail the test unless the second server reads, refuses all changes, and has the images read-only."""
    path = f"/v2/digits/manifests/{digest}"
    answers = {
        "anybody": lab.ssh(HOST, f"{CURL} https://{ADDRESS}:5001{path}").strip(),
        "reader": _status(lab, READER, path, port=5001),
        "reader deletes": _status(lab, READER, path, "--request DELETE", port=5001),
        "reader pushes": _status(lab, READER, "/v2/digits/blobs/uploads/", "--request POST", port=5001),
        "reader at the other server": _status(lab, READER, path),
    }
    wanted = dict(zip(answers, ("401", "200", "405", "405", "401"), strict=True))
    need(answers == wanted, f"answers: {answers}")
    pid = lab.ssh(HOST, "systemctl show --property MainPID --value registry-readers.service").strip()
    written = lab.ssh(HOST, f"nsenter --target {pid} --mount touch /srv/warm/registry/x 2>&1 || true")
    need("Read-only file system" in written, f"the second server can write: {written}")


def _need_collected(lab: Lab, digest: str) -> None:
    """Fail the test unless the layers of a deleted image go, while another image stays."""
    _, other = _push(lab, "2", b"second", sent=2)
    need(_status(lab, WRITER, f"/v2/digits/manifests/{other}", "--request DELETE") == "202", "it was not deleted")
    there = [f"{STORE}/{each[7:9]}/{each[7:]}/data" for each in (digest, other)]
    lab.ssh(HOST, f"test -e {there[1]} && systemctl start registry-collect.service && test ! -e {there[1]}")
    lab.ssh(HOST, f"test -e {there[0]}")
    eventually(lambda: not lab.differing(), "the registry runs again", 120)


def _need_no_password(lab: Lab) -> None:
    """Fail the test if a password is in a file of the project, or that of the writer on the host."""
    passwords = {name: derive_value(name) for name in SECRETS}
    # without the drives of the host, where containerd has the password of the node
    own = [*(lab.directory / "stacks").iterdir(), *(lab.directory / ".rackwright").iterdir()]
    found = leaks.leaks(leaks.forms(passwords), *(each for each in own if each.name != "twins"))
    need(not found, f"passwords in the project: {found}")
    needle = passwords[f"registry_{WRITER}"]
    places = "/etc /opt /root /run /srv /tmp /usr/local /var"
    found = lab.ssh(HOST, f"echo '{needle}' | grep -rlF --file=- {places} 2>/dev/null", status=None)
    need(not found, f"the host has the password of {WRITER}: {found}")
