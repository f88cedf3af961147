"""The role base with a secret, on a booted host of a twin."""

import json
import os
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML

from rackwright.schema.secret import derive_value
from tests.support.lab import Lab
from tests.support.log import Log

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root, and this is somebody else"),
]
HOST = "alpha"
KEYS = "/etc/chrony/chrony.keys"
CLAIM = {(f"{HOST}/base", f"file:{KEYS}")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("base")
    keys = [{"id": 1, "type": "SHA256", "key": {"secret": "ntp_key"}, "servers": ["time-1.example"]}]
    base = {"ntp_servers": ["time-1.example"], "ntp_keys": keys, "security_updates": False}
    host = {"address": "192.0.2.1", "identity": {"serial": "S-ALPHA"}, "os": "debian-12", "roles": {"base": base}}
    fleet = directory / "fleet.yaml"
    with fleet.open("w") as file:
        YAML().dump({"fleet": "base", "hosts": {HOST: host}}, file)
    with Lab(directory / "project", fleet, Log("base")) as lab:
        settings = lab.directory / "stacks" / f"Pulumi.{lab.stack}.yaml"
        config = json.loads(settings.read_text())
        config["config"]["rackwright:containers"] = [HOST]
        settings.write_text(json.dumps(config))
        lab.start()
        lab.up()
        yield lab


def test_the_twin_makes_up_a_key_that_chrony_takes(lab: Lab) -> None:
    """
    With nothing typed: the value is derived, the file is as chrony reads it, and nothing is left to do.
    """
    assert lab.ssh(HOST, f"tail -n 1 {KEYS}") == f"1 SHA256 {derive_value('ntp_key')}"
    assert lab.ssh(HOST, f"stat -c '%U:%G %a' {KEYS}") == "root:_chrony 640"
    assert f"keyfile {KEYS}" in lab.ssh(HOST, "chronyd -p")
    assert lab.audit_differences(status=0) == set()


def test_a_key_that_is_changed_by_hand_is_found_mended_and_shown_by_nobody(lab: Lab) -> None:
    lab.ssh(HOST, f"sed -i 's/^1 .*/1 SHA256 somebody-elses-key/' {KEYS}")
    assert lab.audit_differences() == CLAIM
    shown = lab.pulumi("preview", "--diff", status=0)
    made = lab.up()

    for said in (shown.stdout + shown.stderr, made.stdout + made.stderr):
        assert derive_value("ntp_key") not in said
        assert "somebody-elses-key" not in said
        assert f"{KEYS}: the content is secret, and not shown" in said
    assert lab.audit_differences(status=0) == set()
