"""Line 4: the steps of the CI files of `rackwright init`, run on a plain machine, install hashed packages alone."""

import re
import shlex
from typing import Any

import pytest
import yaml

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.plain_machine import CHECKOUT, INSTALL, RACKWRIGHT, PlainMachine, plain_machine

PROJECT, JOB = "/root/demo", "/root/job"
CODE_HOST = "/root/code-host"
"""Directory with programs that stand for those of the code host, and keep what they are called with."""
ORDER = {"github": ("check", "up", "audit", "preview"), "gitlab": ("check", "up", "audit", "preview")}
PATHS = {"github": ".github/workflows/rackwright.yaml", "gitlab": ".gitlab-ci.yml"}
HOSTILE = (
    "attrs==25.3.0",
    "--extra-index-url https://packages.example/simple",
    "six==1.17.0 --hash=sha256:" + "0" * 64,
)
"""Lines of a requirements.txt that no installation may accept."""


@line("hardening2", 4)
def test_the_steps_of_both_ci_files_run_in_order_and_install_hashed_packages(log: Log) -> str:
    need(log.run(["make", "wheel"]).returncode == 0, "make wheel failed")
    steps = 0
    with plain_machine(log) as machine:
        _run(machine, log, f"rm -rf {CHECKOUT}", "/root")
        for command in (*INSTALL, f"{RACKWRIGHT} init demo --packages /source/dist"):
            _run(machine, log, command, "/root")
        _run(machine, log, f"{RACKWRIGHT} toolchain system && {RACKWRIGHT} twin start lab", PROJECT)
        _prepare(machine, log)
        for service, order in ORDER.items():
            text = machine.run(f"cat {PATHS[service]}", PROJECT).stdout
            # the checkout has the state and the twin of the project
            _run(machine, log, f"rm -rf {JOB}; git clone --quiet {PROJECT} {JOB}", "/root")
            _run(machine, log, f"ln -s {PROJECT}/.rackwright {JOB}/.rackwright", "/root")
            for name in order:
                for command in _commands(service, yaml.safe_load(text), name):
                    _run(machine, log, command, JOB)
                    steps += 1
            calls = machine.run(f"cat {CODE_HOST}/calls", "/root").stdout
            need("comment.md" in calls, f"{service}: no preview reached the code host: {calls[-200:]}")
        refused = _count_refused(machine, log)
    return (
        f"{steps} steps of 2 files ended well; {refused} requirements without a hash, or with a wrong one, were refused"
    )


def _prepare(machine: PlainMachine, log: Log) -> None:
    """Commit the project with its digests, and put programs of a code host in PATH."""
    _run(machine, log, f"{RACKWRIGHT} digests lab >stacks/lab.digests.json", PROJECT)
    identity = "git config --global user.name demo; git config --global user.email demo@example.org"
    _run(machine, log, f"{identity}; git init -q; git add -A; git commit -qm project", PROJECT)
    program = f'#!/bin/sh\necho "$0 $*" >>{CODE_HOST}/calls\n'
    install = f"mkdir -p {CODE_HOST}; printf %s {shlex.quote(program)} >{CODE_HOST}/gh"
    _run(machine, log, f"{install}; chmod +x {CODE_HOST}/gh; cp {CODE_HOST}/gh {CODE_HOST}/curl", "/root")
    _run(machine, log, "ssh-keygen -q -t ed25519 -N '' -f /root/ci-key", "/root")


def _commands(service: str, data: dict[str, Any], name: str) -> list[str]:
    """Return the commands of the steps of job *name*, each with its environment, as the service would run them."""
    key, salt = "$(cat /root/ci-key)", f"$(base64 -w0 {PROJECT}/.rackwright/salts/*)"
    values = {"SALT": salt, "RACKWRIGHT_SALT_FILE": f"{CODE_HOST}/salt"}
    values |= {"PULL_REQUEST": "7", "ACCEPTED": "0", "GH_TOKEN": "token", "COMMENT_TOKEN": "token", "STACK": "lab"}
    values |= {"CI_API_V4_URL": "https://code.example", "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "7"}
    if service == "github":
        values |= {"SSH_KEY": key, "PROBE_SSH_KEY": key}
        scripts = [step["run"] for step in data["jobs"][name]["steps"] if "run" in step]
    else:
        values |= {"SSH_KEY": "/root/ci-key", "PROBE_SSH_KEY": "/root/ci-key"}
        job = data[name]
        scripts = ["\n".join([*job["script"], *job.get("after_script", ())])]
    exports = " ".join(f'{key}="{value}"' for key, value in values.items())
    head = f'set -e; export PATH={CODE_HOST}:"$PATH" {exports}\n'
    return [f"bash -c {shlex.quote(head + script)}" for script in scripts]


def _count_refused(machine: PlainMachine, log: Log) -> int:
    """Require that the command of the files installs nothing of HOSTILE, and return how many were tried."""
    text = machine.run(f"cat {PATHS['github']}", PROJECT).stdout
    found = re.search(r'run: "(python3 -m venv .*)"', text)
    if not found:
        pytest.fail("the file has no installation")
    for hostile in HOSTILE:
        _run(machine, log, f"rm -rf {JOB}; git clone --quiet {PROJECT} {JOB}", "/root")
        _run(machine, log, f"printf '%s\\n' {shlex.quote(hostile)} >>requirements.txt", JOB)
        done = machine.run(found[1], JOB)
        need(done.returncode != 0, f"{hostile!r} was installed")
    return len(HOSTILE)


def _run(machine: PlainMachine, log: Log, command: str, directory: str) -> None:
    log(command[:120])
    done = machine.run(command, directory)
    last = (done.stderr or done.stdout)[-400:]
    need(done.returncode == 0, f"`{command[:200]}` ended with {done.returncode}: {last}")
