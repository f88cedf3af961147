"""A container that has no way out installs what the lock names, over the connection that changes it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright.cli.lock import run
from rackwright.errors import Refused
from rackwright.lock import apt
from rackwright.stack import load_stack
from rackwright.toolchain import cache
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.package_mirror import Mirror

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root, and this is somebody else"),
]
HOST = "alpha"
SOURCE = "deb [trusted=yes] http://mirror.example/ elsewhere main"
"""What the host has from whoever set it up; nobody is there."""


class ServedModel(Lab):
    """A lab whose controller has one mirror, of small packages, and a pool of its own."""

    def __init__(self, directory: Path, fleet: str) -> None:
        super().__init__(directory / "project", fleet, Log("mirror"), containers=[HOST])
        self.mirror = Mirror(directory / "mirror")
        self.cache = directory / "cache"
        self.cache.mkdir()
        for name in ("go", "toolchain", "twin"):  # what takes minutes to make is everybody's
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
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    base = {"packages": ["tool"], "security_updates": False}
    host = {"address": "192.0.2.1", "identity": {"serial": "S-ALPHA"}, "os": "debian-12", "roles": {"base": base}}
    fleet = json.dumps({"fleet": "served", "mirror": {}, "hosts": {HOST: host}})
    with ServedModel(tmp_path_factory.mktemp("mirror"), fleet) as lab:
        for name in ("chrony", "unattended-upgrades"):  # newer ones are in the image
            lab.mirror.add(name, "0")
        lab.mirror.add("tool", "1", "tool-library")
        lab.mirror.add("tool-library", "1")
        lab.start()
        lab.ssh(HOST, f"echo '{SOURCE}' > /etc/apt/sources.list")
        yield lab


def test_a_host_without_a_way_out_gets_what_the_lock_names(lab: ServedModel) -> None:
    assert lab.ssh(HOST, "ip route show default") == ""
    assert "got no lock" in lab.up(status=2).stderr
    lab.lock()

    lab.up()

    assert lab.ssh(HOST, "cat /usr/share/tool/content /usr/share/tool-library/content") == "tool 1\ntool-library 1"
    assert lab.audited(status=0) == set()
    assert lab.ssh(HOST, "ss -Htln 'sport = :9417'") == "", "it listens only while a role is played"


def test_another_source_on_the_host_is_not_asked(lab: ServedModel) -> None:
    """Nor does anybody answer between runs."""
    said = lab.ssh(HOST, "apt-get update --error-on=any 2>&1", status=None)

    assert "127.0.0.1:9417" in said
    assert "mirror.example" not in said


def test_what_cannot_be_had_changes_neither_lock_nor_host(lab: ServedModel) -> None:
    before, packages = lab.fleet_path.with_suffix(".lock.yaml").read_text(), lab.ssh(HOST, "dpkg -l")
    lab.edit(lambda fleet: fleet["hosts"][HOST]["roles"]["base"].update(packages=["tool", "nothing"]))

    with pytest.raises(Refused, match="Unable to locate package nothing"):
        lab.lock()
    assert "got no nothing; alpha/base promises it" in lab.up(status=2).stderr
    assert lab.fleet_path.with_suffix(".lock.yaml").read_text() == before
    assert lab.ssh(HOST, "dpkg -l") == packages


def test_without_a_mirror_the_host_asks_its_own_sources_again(lab: ServedModel) -> None:
    def own_sources(fleet: dict) -> None:
        del fleet["mirror"]
        fleet["hosts"][HOST]["roles"]["base"].update(packages=["tool"])

    lab.edit(own_sources)
    lab.up()

    assert "mirror.example" in lab.ssh(HOST, "apt-get update --error-on=any 2>&1", status=None)
    assert lab.audited(status=0) == set()
