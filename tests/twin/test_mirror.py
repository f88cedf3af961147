"""A container without internet access installs the packages of the lock, over its SSH connection."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright.cli.lock import run
from rackwright.errors import ChangeRefused
from rackwright.lock import apt
from rackwright.stack import load_stack
from rackwright.toolchain import cache
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.package_mirror import Mirror

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start containers"),
]
HOST = "alpha"
SOURCE = "deb [trusted=yes] http://mirror.example/ elsewhere main"
"""A package source in the host's own list, whose server does not exist."""


class MirrorLab(Lab):
    """A lab whose controller has one mirror, of small packages, and a pool of its own."""

    def __init__(self, directory: Path, fleet: str) -> None:
        super().__init__(directory / "project", fleet, Log("mirror"), containers=[HOST])
        self.mirror = Mirror(directory / "mirror")
        self.cache = directory / "cache"
        self.cache.mkdir()
        for name in ("go", "toolchain", "twin"):  # shared, since they take minutes to make
            (cache.directory() / name).mkdir(parents=True, exist_ok=True)
            (self.cache / name).symlink_to(cache.directory() / name)
        self.environment["RACKWRIGHT_CACHE"] = str(self.cache)

    def lock(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RACKWRIGHT_CACHE", str(self.cache))
            patch.chdir(self.directory)
            source = f"deb [trusted=yes] file:{self.mirror.directory} ./"
            patch.setattr(apt, "mirrors", lambda suite, components: [source])
            run(load_stack(self.stack, self.directory), check=False, upgrade=False, fetch=True, to=None, as_json=False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MirrorLab]:
    base = {"packages": ["tool"], "security_updates": False}
    host = {"address": "192.0.2.1", "identity": {"serial": "S-ALPHA"}, "os": "debian-12", "roles": {"base": base}}
    fleet = json.dumps({"fleet": "served", "mirror": {}, "hosts": {HOST: host}})
    with MirrorLab(tmp_path_factory.mktemp("mirror"), fleet) as lab:
        for name in ("chrony", "unattended-upgrades"):  # newer ones are in the image
            lab.mirror.add(name, "0")
        lab.mirror.add("tool", "1", "tool-library")
        lab.mirror.add("tool-library", "1")
        lab.start()
        lab.ssh(HOST, f"echo '{SOURCE}' > /etc/apt/sources.list")
        yield lab


def test_a_host_without_internet_gets_the_packages_of_the_lock(lab: MirrorLab) -> None:
    assert lab.ssh(HOST, "ip route show default") == ""
    assert "there is no lock" in lab.up(status=2).stderr
    lab.lock()

    lab.up()

    assert lab.ssh(HOST, "cat /usr/share/tool/content /usr/share/tool-library/content") == "tool 1\ntool-library 1"
    assert lab.audit_differences() == set()
    assert lab.ssh(HOST, "ss -Htln 'sport = :9417'") == "", "the mirror listens only while a role runs"


def test_other_package_sources_of_the_host_are_not_used(lab: MirrorLab) -> None:
    """The mirror does not answer between runs."""
    output = lab.ssh(HOST, "apt-get update --error-on=any 2>&1", status=None)

    assert "127.0.0.1:9417" in output
    assert "mirror.example" not in output


def test_a_missing_package_changes_neither_lock_nor_host(lab: MirrorLab) -> None:
    before, packages = lab.fleet_path.with_suffix(".lock.yaml").read_text(), lab.ssh(HOST, "dpkg -l")
    lab.edit(lambda fleet: fleet["hosts"][HOST]["roles"]["base"].update(packages=["tool", "nothing"]))

    with pytest.raises(ChangeRefused, match="Unable to locate package nothing"):
        lab.lock()
    assert "the lock lacks nothing" in lab.up(status=2).stderr
    assert lab.fleet_path.with_suffix(".lock.yaml").read_text() == before
    assert lab.ssh(HOST, "dpkg -l") == packages


def test_without_a_mirror_the_host_uses_its_own_sources(lab: MirrorLab) -> None:
    def own_sources(fleet: dict) -> None:
        del fleet["mirror"]
        fleet["hosts"][HOST]["roles"]["base"].update(packages=["tool"])

    lab.edit(own_sources)
    lab.apply()

    assert "mirror.example" in lab.ssh(HOST, "apt-get update --error-on=any 2>&1", status=None)
    assert lab.audit_differences() == set()
