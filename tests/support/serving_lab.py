"""Model servers on two containers of a twin, with a load balancer, for tests of serving."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.repository import Repository
from rackwright.schema.secret import derive_value
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.workloads import python

ONE, OTHER, BALANCER = HOSTS = ("birch", "maple", "willow")
SERVER, PORT, FRONT = "digits", 8080, "10.143.0.13"
KEY = derive_value("digits_app")
"""Value of the secret on a twin, where it is not set."""
CLIENTS = Path(__file__).with_name("models") / "clients.py"
RACK = """\
fleet: grove
groups:
  grove: {profile: virtual, os: debian-12, network: {}}
hosts:
""" + "".join(
    f"""\
  {name}:
    group: grove
    address: 10.43.0.1{number}
    identity: {{serial: GROVE-{number}}}
    nics: [{{name: fabric0, mac: "52:54:00:00:43:0{number}", addresses: [10.143.0.1{number}/24]}}]
"""
    + (
        f"""\
    roles:
      base: {{security_updates: false, packages: [curl]}}
      load_balancer:
        address: {FRONT}
        services: {{digits: {{port: {PORT}, members: ["10.143.0.11:{PORT}", "10.143.0.12:{PORT}"]}}}}
"""
        if name == BALANCER
        else ""
    )
    for number, name in enumerate(HOSTS, start=1)
)
CANARY = "canary: {data: models/rows.npz, accuracy: 0.5}"
SERVERS = f"""\
fleet: serving
uses: fleet.yaml
servers:
  digits:
    model: {{path: models/first}}
    hosts: [birch, maple]
    keys: {{app: {{secret: digits_app}}}}
    {CANARY}
    environment: {{path: /opt/workloads}}
    ready_seconds: 900
    set: {{threads: 1}}
"""


class ServingLab(Lab):
    """A lab with the stack of the servers and a second stack of their hosts."""

    def status(self, status: int | None = None) -> dict[str, Any]:
        done = self.rackwright("server", "status", self.stack, SERVER, "--json", status=status)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def versions(self) -> dict[str, str]:
        """Return the version that each host reports to serve."""
        return {host: report["version"] for host, report in self.status()["hosts"].items()}

    def promote(self, model: str, status: int = 0) -> None:
        self.rackwright("server", "promote", self.stack, SERVER, model, status=status)

    def ask(self, path: str, *options: str) -> tuple[int, str]:
        """Send a request through the balancer with curl, as in README, and return the status and the body."""
        quoted = " ".join(f"'{option}'" for option in options)
        output = self.ssh(
            BALANCER,
            f"curl -s -m 60 -w '\\n%{{http_code}}' -H 'Authorization: Bearer {KEY}' {quoted} http://{FRONT}:{PORT}{path}",
        )
        body, _, status = output.rpartition("\n")
        return int(status), body

    @contextmanager
    def load(self, clients: int = 16) -> Iterator[dict[str, Any]]:
        """Run *clients* against the balancer during the block; afterwards the mapping has their results."""
        results: dict[str, Any] = {}
        put = f"cat > /root/clients.py <<'END'\n{CLIENTS.read_text()}\nEND\n"
        arguments = f"{FRONT} {PORT} {SERVER} {clients} /root/results.json"
        begin = f"systemd-run --quiet --collect --unit=clients python3 /root/clients.py {arguments}"
        self.ssh(BALANCER, f"{put}rm -f /root/results.json\numask 077\nprintf '%s' '{KEY}' > /root/key\n{begin}")
        try:
            yield results
        finally:
            self.ssh(BALANCER, "systemctl stop clients", status=None)
        results |= json.loads(self.ssh(BALANCER, "cat /root/results.json"))
        self.log(f"clients: {results}")


def make_models(log: Log, directory: Path) -> None:
    """Make the models below *directory*, or copy those that an earlier test made from the same code."""
    maker = ROOT / "tests/support/models/models.py"
    digest = sha256(Repository.load(ROOT, b"salt").workloads + maker.read_bytes()).hexdigest()
    kept = ROOT / ".rackwright" / "accept" / f"models-{digest[:12]}"
    if not kept.is_dir():
        log("training and quantising the digits")
        partial = kept.with_name(f".{kept.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        argv = [python(log), "-m", "tests.support.models.models", str(partial)]
        done = log.run(argv, ROOT, {**os.environ, "OMP_NUM_THREADS": "1"}, timeout=3600)
        if done.returncode:
            pytest.fail(f"the models could not be made: {done.stderr.strip().splitlines()[-1:]}", pytrace=False)
        partial.rename(kept)
    shutil.copytree(kept, directory)


@contextmanager
def serving_lab(log: Log) -> Iterator[ServingLab]:
    """Yield a lab in which two hosts serve the first model, behind a balancer on a third host."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    lab = ServingLab(
        log.empty_directory() / "project", RACK, log, "grove", containers=HOSTS, mirrors=True, workloads=True
    )
    with lab:
        lab.add_stack("serving", SERVERS)
        make_models(log, lab.directory / "models")
        lab.start()
        log("making the hosts, and the balancer")
        lab.up()
        lab.stack = "serving"
        log("serving the first model")
        lab.up()
        need(lab.status(status=0), "it is served")
        yield lab


def version(lab: ServingLab, model: str) -> str:
    """Return the version of one of the models."""
    version: str = json.loads((lab.directory / "models" / model / "model.json").read_text())["version"]
    return version
