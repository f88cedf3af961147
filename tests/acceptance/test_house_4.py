"""Line 4: a state of an older version is refused, moved to a file, and its hosts are taken over with their data."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log

OLD = "055b92ace0dce87a4d2ba2ed666bff0c0e04d320"
"""A commit whose states name no format; this version calls that format 1."""
RACKWRIGHT = ".venv/bin/rackwright"
HOSTS = ("gpu-01", "gpu-02")
DATA = "cd /srv/warm && head -c 20M /dev/urandom | sudo tee kept >/dev/null && sync && sha256sum kept"
SUM = "echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null; cd /srv/warm && sha256sum kept"


class Checkout:
    """A clone of this repository, with a `.venv`, a state and a twin of its own."""

    def __init__(self, log: Log) -> None:
        self._log, self._directory = log, log.empty_directory() / "checkout"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}

    def run(self, *argv: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = self._log.run(argv, self._directory, self._environment)
        text = done.stderr or done.stdout
        need(status in (None, done.returncode), f"`{' '.join(argv[-3:])}` ended with {done.returncode}: {text[-300:]}")
        return done

    def clone(self) -> None:
        self._directory.mkdir()
        self.run("git", "clone", "--quiet", str(ROOT), ".")
        if self._log.run(["git", "cat-file", "-e", f"{OLD}^{{commit}}"], self._directory).returncode:
            pytest.skip(f"this clone has not the commit {OLD[:9]}: `git fetch --unshallow` brings it")

    def checkout(self, commit: str) -> None:
        self.run("git", "checkout", "--quiet", commit)

    def on_hosts(self, command: str) -> list[str]:
        return [self.run(RACKWRIGHT, "twin", "ssh", "lab", host, command).stdout.split()[0] for host in HOSTS]

    def stop(self) -> None:
        self._log.run(["make", "down"], self._directory, self._environment)

    @property
    def state_file(self) -> Path:
        return self._directory / ".rackwright/states/lab.format-1.json"


@line("house", 4)
def test_a_lab_of_an_older_version_is_taken_over_with_its_data(log: Log) -> str:
    now = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lab = Checkout(log)
    lab.clone()
    try:
        log(f"make up of {OLD[:9]}")
        lab.checkout(OLD)
        lab.run("make", "up")
        sums = lab.on_hosts(DATA)

        log("preview and make up of this version")
        lab.checkout(now.strip())
        lab.run("make", "toolchain")
        for command in ([RACKWRIGHT, "preview", "lab"], ["make", "up"]):
            refused = lab.run(*command, status=2)
            need("its state has format 1" in refused.stderr, f"{command} says {refused.stderr[-300:]}")
            need("rackwright adopt lab --set-aside-state" in refused.stderr, f"{command} names no way out")

        log("adopt lab --set-aside-state")
        adopted = json.loads(lab.run(RACKWRIGHT, "adopt", "lab", "--set-aside-state", "--json", status=None).stdout)
        need(adopted["set_aside"] == str(lab.state_file) and lab.state_file.exists(), f"adopt says {adopted}")
        need(not any(adopted[key] for key in ("changes", "undeclared")), f"adopt says {adopted}")
        written = {reason.split(" ")[0] for reasons in adopted["not_adopted"].values() for reason in reasons}
        need(all(path.startswith("file:/etc/") for path in written), f"adopt says {adopted}")
        log("up lab")
        lab.run(RACKWRIGHT, "up", "lab", "--yes")
        lab.run(RACKWRIGHT, "preview", "lab")
        need(lab.on_hosts(SUM) == sums, "the data is not as before")
    finally:
        lab.stop()
    return (
        f"adopted {len(adopted['adopted'])} resources; the other {len(adopted['not_adopted'])} have files of ours with "
        f"an earlier content, which `up` wrote; clean preview, sums of {len(sums)} files equal"
    )
