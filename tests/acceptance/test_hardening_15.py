"""A host answers with a bomb, with nesting, without end, and with a name that is no UTF-8: audits end within bounds."""

import os
import resource

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log

HOST = "oak"
RACK = f"""\
fleet: trees
hosts:
  {HOST}:
    profile: virtual
    os: debian-12
    address: 10.42.0.11
    identity: {{serial: TREE-1}}
"""
PYTHON = "/usr/bin/python3"
PACKED = """\
import base64, sys, zlib
sys.stdin.buffer.read()
packing = zlib.compressobj(9)
parts = [packing.compress(part) for part in {parts}]
sys.stdout.buffer.write(base64.b64encode(b"".join(parts) + packing.flush()) + b"\\n")
"""
BOMB = """[b'{"a":"', *[b"x" * (1 << 20)] * 2048, b'"}']"""
ANSWERS = {
    "2 GB in 2 MB": PACKED.format(parts=BOMB),
    "100,000 levels": PACKED.format(parts="""[b'{"a":', b"[" * 100000, b"]" * 100000, b"}"]"""),
    "no end": "import sys\nwhile True:\n    sys.stdout.buffer.write(b'x' * 65536)\n",
    "no facts": PACKED.format(parts="[b'[]']"),
}
"""What the host says in place of facts, by what it is."""
BYTES = 600 << 20
"""The most memory that a command may take: itself, 64 MiB of an answer, and twice 32 MiB of facts."""


@line("hardening", 15)
def test_a_hostile_host_costs_an_audit_little(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with Lab(log.empty_directory(), RACK, log, "trees", containers=[HOST]) as lab:
        lab.start()
        lab.up()
        log("a file whose name is no UTF-8")
        lab.ssh(HOST, r"touch /etc/rackwright-$(printf '\377\303')")
        report = lab.audit()
        need(
            report["resources"][0]["not_reached"] is None and not lab.audit_differences(),
            "a name makes the host differ",
        )
        lab.pulumi("preview", status=0)
        lab.ssh(HOST, f"cp -L {PYTHON} /usr/bin/sound; rm {PYTHON}")
        for name, answer in ANSWERS.items():
            log(f"an answer of {name}")
            lab.ssh(HOST, f"cat > /opt/answer.py <<'END'\n{answer}END\n")
            lab.ssh(HOST, f"printf '#!/bin/sh\\nexec /usr/bin/sound /opt/answer.py\\n' > {PYTHON}; chmod 0755 {PYTHON}")
            done = lab.rackwright("audit", lab.stack, status=3)
            need("Traceback" not in done.stderr, f"{name}: {done.stderr[-300:]}")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
        need(peak < BYTES, f"a command took {peak >> 20} MiB")
        return (
            f"{len(ANSWERS)} hostile answers, at most {peak >> 20} MiB in a command; a name that is no UTF-8 is shown"
        )
