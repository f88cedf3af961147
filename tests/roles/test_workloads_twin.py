"""The role workloads on a host of a twin that has no way out: what serves, from the fleet's local repository."""

import json
import os
import shlex
from collections.abc import Iterator

import pytest

from rackwright.core.repository import Repository
from rackwright.kinds.role.promise import sha256
from tests.support.lab import Lab
from tests.support.log import ROOT, Log

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
]
HOST = "alpha"
PLACE = Repository.load(ROOT, b"").render(
    "workloads/environment.j2", item="serving", sha256=sha256, workloads_horovod=True
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A host that gets all it needs by the connection that changes it."""
    directory = tmp_path_factory.mktemp("workloads")
    roles = {"base": {"security_updates": False}, "workloads": {"environments": ["serving"]}}
    host = {"address": "192.0.2.1", "identity": {"serial": "S-ALPHA"}, "os": "debian-12", "roles": roles}
    fleet = json.dumps({"fleet": "served", "mirror": {}, "hosts": {HOST: host}})
    with Lab(directory / "project", fleet, Log("workloads"), containers=[HOST]) as lab:
        lab.start()
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        lab.create()
        yield lab


def test_accounts_without_rights_import_what_serves(lab: Lab) -> None:
    """
    Nothing is left to do.
    """
    script = (
        f"cd / && exec {PLACE}/bin/python -c 'import fastapi, onnxruntime, xllamacpp; print(onnxruntime.__version__)'"
    )
    assert lab.ssh(HOST, f"runuser -u nobody -- sh -c {shlex.quote(script)}")
    assert lab.audit_differences(status=0) == set()


def test_a_removed_package_is_installed_again_and_an_unused_one_is_removed(lab: Lab) -> None:
    lab.ssh(HOST, f"cp -a {PLACE} {PLACE}-left; {PLACE}/bin/python -m pip uninstall -q -y onnxruntime 2>/dev/null")

    assert lab.audit_differences() == {(f"{HOST}/workloads", f"environment:{PLACE}")}
    lab.apply()
    assert lab.audit_differences(status=0) == set()
    assert lab.ssh(HOST, "ls -d /opt/rackwright/workloads/serving-*") == PLACE
