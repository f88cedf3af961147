"""The ports of every service unit: each unit is in the table, and what the table says is in the unit."""

import re

import pytest

from rackwright.kinds.model_server.files import files
from rackwright.schema.vllm import Vllm
from tests.support.model_server_spec import REPOSITORY, SPEC
from tests.support.specs import changed
from tests.support.unit_files import GUARD, services, values
from tests.support.unit_ports import NONE, PORTS, TABLE

STORES = re.compile(r"-m workloads\.(serving model|training)|/usr/sbin/sshd -D")
"""Programs whose processes may be those of torch or vLLM, which open ports on all addresses."""


def texts() -> dict[str, str]:
    """Return the text of each unit, with vLLM in that of a server."""
    [server] = [
        str(file.content)
        for file in files(changed(SPEC, vllm=Vllm()), REPOSITORY)
        if file.path.endswith("server-digits.service")
    ]
    return {**services(), "model_server/etc/systemd/system/server.service.j2": server}


def test_every_unit_is_listed_with_the_ports_that_it_may_open() -> None:
    assert {*PORTS} == {*services()}


@pytest.mark.parametrize("name", [name for name, (ports, _) in PORTS.items() if ports == NONE and name != GUARD])
def test_a_unit_without_ports_has_no_network(name: str) -> None:
    text = texts()[name]
    families = values(text, "RestrictAddressFamilies")
    closed = families and not any("INET" in each for each in families)
    assert closed or values(text, "PrivateNetwork") == ["yes"]


def test_every_unit_of_torch_and_vllm_loads_its_table_before_a_process_starts() -> None:
    with_stores = {name for name, text in texts().items() if STORES.search(text)}
    assert with_stores == {name for name, (ports, _) in PORTS.items() if ports == TABLE}
    for name in with_stores:
        text = texts()[name]
        [load] = [each for each in values(text, "ExecStartPre") if "nft" in each]
        assert re.fullmatch(r"\+/usr/sbin/nft -f /etc/rackwright/\S+/firewall\.nft", load), name
        assert "\nExecStopPost=-+/usr/sbin/nft delete table inet rackwright_" in text
