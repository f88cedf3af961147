"""Line 6: two rebuilds of a twin without the internet give the same facts; a changed package is refused before that."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rackwright.facts import rebuilt
from rackwright.fleet.lockfile import load_lock
from rackwright.toolchain import cache
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log

FLEET = """\
fleet: rebuilt
mirror: {}
ssh: {logins: [{name: admin, user: rackwright, agent: true}]}
groups:
  rack: {os: debian-12, roles: {base: {timezone: Europe/Zurich, packages: [tree]}}}
hosts:
  gpu-01:
    group: rack
    profile: virtual
    address: 10.44.0.11
    identity: {serial: REBUILT-01}
    tiers:
      hot: {level: raid10, filesystem: xfs, mount: /srv/hot}
      warm: {level: raid1, filesystem: ext4, mount: /srv/warm}
    drives:
      - {serial: RB-BOOT, boot: true}
      - {serial: RB-NVME0, bus: nvme, size: 512MB, tier: hot}
      - {serial: RB-NVME1, bus: nvme, size: 512MB, tier: hot}
      - {serial: RB-NVME2, bus: nvme, size: 512MB, tier: hot}
      - {serial: RB-NVME3, bus: nvme, size: 512MB, tier: hot}
      - {serial: RB-SAS0, bus: sas, size: 512MB, tier: warm}
      - {serial: RB-SAS1, bus: sas, size: 512MB, tier: warm}
    nics: [{name: fabric0, mac: "52:54:00:00:0a:01", addresses: [10.45.0.11/24]}]
  service-01:
    group: rack
    address: 10.44.0.12
    identity: {serial: REBUILT-02}
    nics: [{name: fabric0, mac: "52:54:00:00:0a:02", addresses: [10.45.0.12/24]}]
"""
CONTAINER = "service-01"
SHARED = ("go", "toolchain", "twin")
"""Parts of the cache that take minutes to make, and that no test changes."""
ENTER = """\
#!/bin/sh
exec nsenter --net={namespace} {program} "$@"
"""


@line("front", 6)
def test_two_rebuilds_without_the_internet_give_the_same_hash(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("containers and network namespaces need root")
    directory = log.empty_directory()
    with Lab(directory / "project", FLEET, log, containers=[CONTAINER]) as lab:
        _use_own_pool(lab, directory / "cache")
        log("the lock and the local repository")
        lab.rackwright("lock", "--fetch", "lab", status=0)
        with _without_internet(lab, directory):
            found = [_rebuild(lab, log) for _ in range(3)]
            need(found[0]["hash"] == found[1]["hash"] == found[2]["hash"], f"the hashes: {[f['hash'] for f in found]}")
            for host, result in found[2]["hosts"].items():
                need(result["differences"] == [], f"{host}: {result['differences']}")
            log("a changed package")
            package = _change_a_package(lab)
            refused = lab.rackwright("rebuild", "lab", "--yes", status=2).stderr
            need(package in refused, f"the refusal does not name {package}: {refused}")
            lab.rackwright("audit", "lab", status=0)
    values = sum(result["values"] for result in found[2]["hosts"].values())
    return f"{values} facts of 2 hosts are equal, {len(rebuilt.VOLATILE)} kinds may differ; {found[2]['hash'][:20]}"


def _rebuild(lab: Lab, log: Log) -> dict[str, dict[str, dict[str, list[str]]]]:
    log("rebuild")
    done = lab.rackwright("rebuild", "lab", "--yes", "--json", status=None)
    need(done.returncode == 0, f"it ended with {done.returncode}: {done.stderr[-300:]} {done.stdout[-3000:]}")
    found: dict[str, dict[str, dict[str, list[str]]]] = json.loads(done.stdout)
    return found


def _use_own_pool(lab: Lab, directory: Path) -> None:
    directory.mkdir()
    for name in SHARED:
        (directory / name).symlink_to(cache.directory() / name)
    lab.environment["RACKWRIGHT_CACHE"] = str(directory)


@contextmanager
def _without_internet(lab: Lab, directory: Path) -> Iterator[None]:
    """Run the commands of *lab*, and all that they start, with a loopback interface as the only one."""
    namespace, program = directory / "network", directory / "programs" / "rackwright"
    namespace.touch()
    subprocess.run(["unshare", f"--net={namespace}", "ip", "link", "set", "lo", "up"], check=True)
    program.parent.mkdir()
    program.write_text(ENTER.format(namespace=namespace, program=ROOT / ".venv/bin/rackwright"))
    program.chmod(0o755)
    lab.programs = program.parent
    try:
        yield
    finally:
        subprocess.run(["umount", str(namespace)], check=True)


def _change_a_package(lab: Lab) -> str:
    """Change the last byte of a package in the pool, and return its digest in the lock."""
    lock = load_lock(lab.fleet_path.with_suffix(".lock.yaml"))
    assert lock
    digest = next(iter(lock.packages["debian-12/amd64"].values()))
    file = next((Path(lab.environment["RACKWRIGHT_CACHE"]) / "mirror" / "pool").rglob(f"{digest}.deb"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return digest
