"""The facts of a host are signed with its SSH host key: those of another host are refused, and say whose they are."""

import json
import subprocess
from pathlib import Path
from typing import Any

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

    def check(self, raw: dict[str, Any], host: str, nonce: str = "", is_saved: bool = False) -> None:
        raw = json.loads(json.dumps(raw))  # as it comes over the wire, or out of a snapshot
        check_answer(Facts(raw), self.endpoints[host], self.endpoints, nonce, is_saved=is_saved)


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
SILENT = {
    "other packages, units and links": lambda raw: raw.update(packages={"tree": "2.1"}, units={}, links=[]),
    "another mainboard": lambda raw: raw["identity"].__setitem__("serial", "RW-OTHER"),
    "facts of a later version": lambda raw: raw.update(later={"a": [1]}),
    "a later end of the probe": lambda raw: raw.update(finished_at=99.0),
    "blank lines around the signature": lambda raw: raw["proofs"][0].update(
        signature=f"\n{raw['proofs'][0]['signature']}\n\n"
    ),
}
"""Changes of an answer that leave its proof alone."""
