"""The steps of the CI files of `rackwright init`, run on a plain machine as the services would."""

import shlex
from typing import Any

from tests.support.expect import need
from tests.support.log import Log
from tests.support.plain_machine import PlainMachine

PATHS = {"github": ".github/workflows/rackwright.yaml", "gitlab": ".gitlab-ci.yml"}
CODE_HOST = "/root/code-host"
"""Directory with programs that stand for those of the code host, and keep what they are called with."""
KEY = "/root/ci-key"
"""Private SSH key of the jobs that reach hosts."""


def prepare(machine: PlainMachine, log: Log, project: str) -> None:
    """Commit the project, and make programs of a code host."""
    identity = "git config --global user.name demo; git config --global user.email demo@example.org"
    run(machine, log, f"{identity}; git init -q; git add -A; git commit -qm project", project)
    program = f'#!/bin/sh\necho "$0 $*" >>{CODE_HOST}/calls\n'
    install = f"mkdir -p {CODE_HOST}; printf %s {shlex.quote(program)} >{CODE_HOST}/gh"
    run(machine, log, f"{install}; chmod +x {CODE_HOST}/gh; cp {CODE_HOST}/gh {CODE_HOST}/curl", "/root")


def commands(
    service: str,
    data: dict[str, Any],
    name: str,
    project: str,
    stacks: str = "",
    code_host: str = CODE_HOST,
    key_file: str = KEY,
) -> list[str]:
    """Return the commands of the steps of job *name*, each with its environment, as the service would run them.

    Args:
        stacks: Stacks in the place of those of the file; empty for these.
    """
    key, salt = f"$(cat {key_file})", f"$(base64 -w0 {project}/.rackwright/salts/*)"
    variables = data.get("variables") or data["env"]
    values = {name: variables[name] for name in ("STACKS", "MONITORED")} | ({"STACKS": stacks} if stacks else {})
    values |= {"SALT": salt, "RACKWRIGHT_SALT_FILE": f"{code_host}/salt"}
    values |= {"PULL_REQUEST": "7", "ACCEPTED": "0", "GH_TOKEN": "token", "COMMENT_TOKEN": "token"}
    values |= {"CI_API_V4_URL": "https://code.example", "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "7"}
    if service == "github":
        values |= {"SSH_KEY": key, "PROBE_SSH_KEY": key}
        scripts = [step["run"] for step in data["jobs"][name]["steps"] if "run" in step]
    else:
        values |= {"SSH_KEY": key_file, "PROBE_SSH_KEY": key_file}
        job = data[name]
        scripts = ["\n".join([*job["script"], *job.get("after_script", ())])]
    exports = " ".join(f'{key}="{value}"' for key, value in values.items())
    head = f'set -e; export PATH={code_host}:"$PATH" {exports}\n'
    return [f"bash -c {shlex.quote(head + script)}" for script in scripts]


def run(machine: PlainMachine, log: Log, command: str, directory: str) -> None:
    """Run *command* in the machine, and require that it ends well."""
    log(command[:120])
    done = machine.run(command, directory)
    last = (done.stderr or done.stdout)[-400:]
    need(done.returncode == 0, f"`{command[:200]}` ended with {done.returncode}: {last}")
