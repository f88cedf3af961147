"""A host that was taken over changes a person's second factor: no other host gets more of it than the key."""

import os
from pathlib import Path

import pytest

from rackwright.access.totp import OPTIONS, path
from tests.support.acceptance import line
from tests.support.access_rack import Rack, access, fleet
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log

HOSTS = ("alpha", "beta")
PERSON = "olga"
FILE = path(PERSON)
CODE = "12345678"
"""An emergency code of the attacker's."""


@line("hardening", 18)
def test_enrolment_copies_only_the_key_of_a_second_factor(log: Log) -> str:
    """`enrol` copied the whole file of the first host that had one to the others."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    directory = log.empty_directory()
    keys = Path(directory, "keys")
    declared = fleet(HOSTS, {"base": {"security_updates": False}, "access": access(keys)})
    with Lab(directory / "project", declared, log, containers=HOSTS) as lab:
        lab.start()
        log("making the hosts")
        lab.up(status=1)  # people have no secret yet
        rack = Rack(lab, keys, HOSTS[0])
        key = rack.enrol(PERSON).key
        log("alpha drops the limit of tries and adds a code; beta has lost its file")
        lab.ssh("alpha", f"""sed -i '/RATE_LIMIT/d' {FILE}; echo {CODE} >> {FILE}""")
        lab.ssh("beta", f"rm {FILE}")
        status, text = rack.try_to_enrol(PERSON)
        need(status == 0, f"enrol ended with {status}: {text}")
        wanted = [key, *(f'" {option}' for option in OPTIONS)]
        need(lab.ssh("beta", f"cat {FILE}").splitlines() == wanted, "beta has more than the key and our own options")
        log("beta has another key, then none")
        lab.ssh("beta", f"sed -i '1s/.*/{'A' * 32}/' {FILE}")
        _refused(rack, "alpha / beta")
        lab.ssh("beta", f"echo 'no key' > {FILE}")
        _refused(rack, "beta")
        need(CODE not in lab.ssh("beta", f"cat {FILE}"), "a refused enrolment wrote a file")
    return (
        "beta got the key with rackwright's options alone; a different key and a file without one are refused by host"
    )


def _refused(rack: Rack, hosts: str) -> None:
    status, text = rack.try_to_enrol(PERSON)
    need(status == 2, f"enrol ended with {status}: {text}")
    need(hosts in " ".join(text.split()), f"the refusal does not name {hosts}: {text}")
