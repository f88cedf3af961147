"""Truth: faults of the operator's computer: a killed pulumi, a full disk, hosts that are not reached."""

import os
import re
import shlex
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.support.acceptance import line
from tests.support.expect import errors, eventually, need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.processes import pulumis
from tests.support.recorded_hosts import HOST
from tests.support.simulated import SimulatedHost
from tests.support.simulated_stack import facts_of, obey, simulated_stack


@line("hardening", "truth", part="controller")
def test_faults_of_the_controller_are_reported(log: Log) -> str:
    with simulated_stack(log, {HOST: facts_of(HOST)}) as (lab, rack):
        log("pulumi is killed in the middle of up")
        status, output = _killed(lab, rack[HOST])
        need(status == 4, f"up ended with {status}, wanted 4: {output[-400:]}")
        need("`pulumi up` was killed by SIGKILL" in output, f"up does not name pulumi and its signal: {output[-400:]}")
        log("a full disk leaves an empty lock")
        kept = lab.directory / ".rackwright/state/.pulumi"
        lock = next(kept.glob("locks/**/*.json"))
        lock.write_text("")
        _cured(lab, lock, f"rm {lock}")
        obey(rack[HOST])
        lab.up()
        log("a full disk leaves an empty state")
        state = next(kept.glob(f"stacks/**/{lab.stack}.json"))
        state.write_text("")
        _cured(lab, state, f"cp {state}.bak {state}")
        lab.up()
        state.write_text('{"version": 3,')
        state.with_name(f"{state.name}.bak").write_text("")
        _cured(lab, state, f"mv {state} {state}.damaged")
        lab.up()
        log("the host is not reached")
        rack.switch_off(HOST)
        known = lab.rackwright("preview", lab.stack, status=3)
        need(HOST in known.stderr, f"the preview does not name it: {known.stderr[-300:]}")
        lab.pulumi("stack", "rm", "--yes", "--force", "--preserve-config", status=0)
        lab.rackwright("preview", lab.stack, status=3)
    return "a killed pulumi is status 4 with SIGKILL; 3 damaged files named with their cure; not reached is status 3"


def _cured(lab: Lab, file: Path, command: str) -> None:
    """See that up and preview name the damaged *file* and *command*, which mends it."""
    for verb in ("preview", "up"):
        done = lab.rackwright(verb, lab.stack, status=2)
        need(
            any(each.startswith(f"{file}: ") for each in errors(done.stderr)),
            f"{verb} does not name {file}: {done.stderr[-400:]}",
        )
        need("Traceback" not in done.stderr, f"{verb} ends with a traceback")
        need(
            command in re.findall(r"`([^`]+)`", done.stderr), f"{verb} does not name `{command}`: {done.stderr[-400:]}"
        )
    subprocess.run(shlex.split(command), check=True)


def _killed(lab: Lab, host: SimulatedHost) -> tuple[int, str]:
    """Kill pulumi while `rackwright up` runs the first step; return its status and its output."""
    begun, let_go = threading.Event(), threading.Event()

    def hang(step: dict[str, Any]) -> None:
        begun.set()
        let_go.wait()

    host.on_step = hang
    argv = [str(ROOT / ".venv/bin/rackwright"), "up", lab.stack, "--yes"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(argv, cwd=lab.directory, env=lab.environment, text=True, **pipes) as up:
        eventually(begun.is_set, "the first step begins", 600)
        [pulumi] = pulumis(up.pid)
        os.kill(pulumi, signal.SIGKILL)
        output, _ = up.communicate()
        let_go.set()
    lab.log.write(output)
    return up.returncode, output
