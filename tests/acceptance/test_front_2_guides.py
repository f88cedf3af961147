"""Line 2, the guides: their commands run as pasted, on a twin of two containers, in a stack that is named as there."""

import os
import re
from pathlib import Path

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.pages import ANSWER, blocks
from tests.support.tutorials import clone

FLEET = """\
fleet: rack-01
ssh: {logins: [{name: admin, user: rackwright, agent: true}]}
groups:
  rack: {os: debian-12, network: {}, tiers: {warm: {provided: true, mount: /srv/warm}}}
hosts:
  gpu-01:
    group: rack
    address: 10.42.0.11
    identity: {serial: GUIDE-01}
    nics: [{name: fabric0, mac: "52:54:00:00:09:01", addresses: [10.43.0.11/24]}]
  gpu-02:
    group: rack
    address: 10.42.0.12
    identity: {serial: GUIDE-02}
    nics: [{name: fabric0, mac: "52:54:00:00:09:02", addresses: [10.43.0.12/24]}]
"""
SETTINGS = """\
config:
  rackwright:fleet: rack-01.yaml
  rackwright:target: twin:rack-01
  rackwright:containers: [gpu-01, gpu-02]
"""
PAGES = ("network", "audit", "watch-drives", "secrets", "use-roles", "ci", "state", "accelerators")
"""Guides for hosts without drives. Lines of storage-life and the tutorials show the guides about drives."""
REPORTS = re.compile(r"rackwright (preview|audit|compare|host qualify)\b")
"""Commands that end with 1 or 3 for what they found."""
TRAP = """\
trap 'status=$?; case $BASH_COMMAND in "command "*);; *) asked=$BASH_COMMAND;; esac; echo "@ $status $asked" >&2' ERR
"""
"""Prints each command that fails; one that passes through the function of ANSWER by what was asked."""


@line("front", 2, part="guides")
def test_the_guides_work_as_pasted(log: Log) -> str:
    """Each page in turn; a command ends with 0, or one that reports with 1 or 3."""
    with clone(log, log.empty_directory().with_name("front.2-guides-clone")) as project:
        (project / "stacks/rack-01.yaml").write_text(FLEET)
        (project / "stacks/Pulumi.rack-01.yaml").write_text(SETTINGS)
        _run(log, project, "rackwright twin start rack-01\nrackwright up rack-01\n")
        lines = sum(_paste(log, project, page) for page in PAGES)
    return f"{lines} lines of {len(PAGES)} guides ran"


def _paste(log: Log, project: Path, page: str) -> int:
    log(page)
    script = "".join(blocks((ROOT / "docs" / "guides" / f"{page}.md").read_text()))
    _run(log, project, script)
    return sum(map(bool, script.splitlines()))


def _run(log: Log, project: Path, script: str) -> None:
    """Run *script* with the commands of the checkout in the path; a secret that it asks for comes from stdin."""
    path = f"{project / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    argv = ["bash", "-c", TRAP + ANSWER + script]
    done = log.run(argv, project, {**os.environ, "PATH": path}, "of this check\n", 1800)
    failed = re.findall(r"^@ (\d+) (.*)$", done.stderr, re.M)
    wrong = [f"{command}: {status}" for status, command in failed if not (status in "13" and REPORTS.match(command))]
    need(not wrong, "; ".join(wrong))
