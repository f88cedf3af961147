"""An auditor brings a key of digests of his own, and a tier has a key that could be guessed: both are refused."""

import json
import os
import secrets
import subprocess
import sys

import pytest

from rackwright.errors import DeclarationError
from rackwright.facts import probe, program
from rackwright.stack import declare, load_stack
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log

GUESSED = ("00", "5a17", "00" * 32)
FILE = "/etc/shadow"


@line("hardening", 13)
def test_digests_are_made_with_the_key_of_the_fleet_only(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("the probe runs as root")
    fleets, short = secrets.token_bytes(32), "rack7717"
    directory = log.empty_directory()
    path = directory / "rackwright-probe"
    path.write_text(program.program(fleets))

    def look(key: str) -> subprocess.CompletedProcess[bytes]:
        argv = (sys.executable, "-ISXutf8", str(path))
        return subprocess.run(argv, input=key.encode() + b"\n", capture_output=True, cwd="/")

    log("the auditor's own keys")
    for key in GUESSED:
        done = look(key)
        need(done.returncode == 1 and not done.stdout, f"the key {key} got {len(done.stdout)} bytes")
        need(b"not the key of the fleet" in done.stderr, f"it says {done.stderr.decode()}")
    facts = probe.parse(look(fleets.hex()).stdout, "here")
    file = facts.file(FILE)
    need(file is not None and file.digest, f"the fleet's key gets no digest of {FILE}")

    log("a key of eight characters for a tier")
    with Lab(directory / "project", ROOT / "tests/kinds/sealed.yaml", log, "sealed") as lab:
        stack = load_stack(lab.stack, lab.directory).with_secrets({"hot_key": short, "warm_key": short * 4})
        try:
            for declared in declare(stack):
                declared.kind.claims(declared.spec, stack.repository)
        except DeclarationError as error:
            need("20 characters" in str(error) and short not in str(error), f"it says {error}")
        else:
            need(False, "a key of eight characters is taken")
    text = json.dumps(facts.raw)
    need(fleets.hex() not in text, "the facts hold the key")
    count = len(facts.read("files"))
    return f"{len(GUESSED)} keys of an auditor got no digest, the fleet's got {count}; a tier's key of 8 is refused"
