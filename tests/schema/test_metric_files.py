"""Files of metrics that roles write for the exporter of their host."""

import re
from typing import Any

import yaml

from rackwright.schema.host import Host
from rackwright.schema.metric_files import EXPORTER, FILES
from tests.support.our_roles import ROOT
from tests.support.role_sets import host

WRITTEN = re.compile(r"/var/lib/prometheus/node-exporter/(\S+[.]prom)")


def exporter_files(roles: dict[str, Any]) -> list[str]:
    declared = Host.model_validate({**host(1, [EXPORTER]), "roles": {"base": {}, **roles}})
    return list(declared.variables(EXPORTER).get("textfiles", []))


def test_each_file_that_a_role_claims_in_the_directory_of_the_exporter_is_known() -> None:
    claimed = {}
    for path in (ROOT / "roles").glob("*/meta/claims.yml"):
        for entry in yaml.safe_load(path.read_text())["claims"]:
            if found := WRITTEN.fullmatch(str(entry.get("present") or entry.get("file"))):
                claimed[path.parents[1].name] = found[1]
    assert claimed == FILES


def test_the_exporter_of_a_host_serves_the_files_of_its_roles() -> None:
    """
    Before, role `node_exporter` removed the file of `drive_exporter`, unless its variables named it as well.
    """
    assert exporter_files({EXPORTER: {}}) == []
    assert exporter_files({EXPORTER: {}, "drive_exporter": {}}) == ["rackwright_drives.prom"]
    both = {EXPORTER: {"textfiles": ["own.prom", "rackwright_drives.prom"]}, "drive_exporter": {}, "gpu_exporter": {}}
    assert exporter_files(both) == ["rackwright_drives.prom", "rackwright_gpus.prom", "own.prom"]
