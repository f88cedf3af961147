"""The facts of a host are signed with its SSH host key: those of another host are refused, and say whose they are."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.facts.probe import proof
from rackwright.hosts.answer import check_answer
from rackwright.schema.ssh import Endpoint

HOSTS = ("gpu-01", "gpu-02", "gpu-03")
KINDS = {"ed25519": (), "ecdsa": ("-b", "256"), "rsa": ("-b", "2048")}


class Site:
    """Hosts with keys, and a file that pins them."""

    def __init__(self, directory: Path, kinds: tuple[str, ...]) -> None:
        self.known_hosts, self.directory = directory / "known_hosts", directory
        for number, host in enumerate(HOSTS):
            folder = directory / host / "etc/ssh"
            folder.mkdir(parents=True)
            for kind in kinds:
                path = folder / f"ssh_host_{kind}_key"
                subprocess.run(["ssh-keygen", "-q", "-t", kind, *KINDS[kind], "-N", "", "-f", path], check=True)
                with self.known_hosts.open("a") as file:
                    file.write(f"192.0.2.{number} {path.with_suffix('.pub').read_text()}")
        self.endpoints = {
            host: Endpoint(host=host, address=f"192.0.2.{number}", port=22, logins=(), known_hosts=self.known_hosts)
            for number, host in enumerate(HOSTS)
        }

    def answer(self, host: str, nonce: str) -> dict[str, Any]:
        identity = {"machine_id": f"id of {host}", "hostname": host, "serial": None}
        started = proof.begin(str(self.directory / host), nonce, [], identity, f"boot of {host}", 17.25)
        signed = proof.end(started)
        return {"taken_at": 17.25, "identity": identity, "boot_id": f"boot of {host}", "proofs": signed}

    def check(self, raw: dict[str, Any], host: str, nonce: str = "") -> None:
        raw = json.loads(json.dumps(raw))  # as it comes over the wire, or out of a snapshot
        check_answer(Facts(raw), self.endpoints[host], self.endpoints, nonce)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"), ("ed25519",))


@pytest.mark.parametrize("kinds", [("ed25519",), ("ecdsa",), ("rsa",), tuple(KINDS)])
def test_a_host_that_answers_for_itself_is_accepted(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    site = Site(tmp_path, kinds)

    for host in HOSTS:
        site.check(site.answer(host, "17"), host, "17")


def test_the_facts_of_another_host_say_whose_they_are(site: Site) -> None:
    with pytest.raises(HostUnreachable, match="gpu-01: answers as gpu-02"):
        site.check(site.answer("gpu-02", "17"), "gpu-01", "17")


def test_an_earlier_answer_is_no_answer(site: Site) -> None:
    with pytest.raises(HostUnreachable, match="the answer to another request"):
        site.check(site.answer("gpu-01", "16"), "gpu-01", "17")


def test_a_saved_answer_keeps_its_proof(site: Site) -> None:
    site.check(site.answer("gpu-01", "16"), "gpu-01")
    with pytest.raises(HostUnreachable, match="answers as gpu-03"):
        site.check(site.answer("gpu-03", "16"), "gpu-01")


def test_a_key_that_is_not_pinned_is_shown(site: Site, tmp_path: Path) -> None:
    stranger = Site(tmp_path, ("ed25519",))

    with pytest.raises(HostUnreachable, match="answers with the unknown key SHA256:"):
        site.check(stranger.answer("gpu-01", "17"), "gpu-01", "17")


CHANGES = {
    "another name": lambda raw: raw["identity"].__setitem__("hostname", "gpu-02"),
    "another machine": lambda raw: raw["identity"].__setitem__("machine_id", "other"),
    "another boot": lambda raw: raw.__setitem__("boot_id", "other"),
    "another time": lambda raw: raw.__setitem__("taken_at", 18.0),
    "another text": lambda raw: raw["proofs"][0].__setitem__("text", raw["proofs"][0]["text"].replace("id", "it")),
    "half a signature": lambda raw: raw["proofs"][0].__setitem__("signature", raw["proofs"][0]["signature"][:90]),
    "no signature": lambda raw: raw["proofs"][0].__setitem__("signature", "none"),
    "a long signature": lambda raw: raw["proofs"][0].__setitem__("signature", "A" * 100_000),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_after_the_signature_is_refused(site: Site, change: str) -> None:
    raw = copy.deepcopy(site.answer("gpu-01", "17"))
    CHANGES[change](raw)

    with pytest.raises(HostUnreachable, match="the proof of its identity is not valid"):
        site.check(raw, "gpu-01", "17")


def test_facts_without_a_proof_are_those_of_an_older_probe(site: Site) -> None:
    site.check({"taken_at": 17.25}, "gpu-01", "17")
    site.check({"proofs": {"unknown": "the host has no SSH host key in /etc/ssh"}}, "gpu-01", "17")
