"""Examples of whole deployments from the wheel, on a machine with nothing on it: complete, and checked by their CI."""

import yaml

from rackwright.cli.init import Example
from tests.support.acceptance import line
from tests.support.ci_steps import PATHS, commands, prepare, run
from tests.support.expect import need
from tests.support.log import Log
from tests.support.plain_machine import CHECKOUT, INSTALL, RACKWRIGHT, PlainMachine, plain_machine

DEPLOYMENTS = (Example.hospital, Example.bank, Example.factory)
JOB = "/root/job"


def _begin(machine: PlainMachine, log: Log, name: str) -> int:
    """Make the project of an example, check both of its stacks, and return the number of files that were written."""
    project = f"/root/{name}"
    log(f"init {name}")
    done = machine.run(f"{RACKWRIGHT} init {name} --example {name} --packages /source/dist", "/root")
    need(done.returncode == 0, f"init {name} ended with {done.returncode}: {done.stderr[-300:]}")
    written = [text for text in done.stdout.splitlines() if text.startswith("wrote")]
    done = machine.run(f"{RACKWRIGHT} check {name}-models", project)
    need(done.stdout.rstrip().endswith("no errors"), f"check of {name}-models: {(done.stderr or done.stdout)[-300:]}")
    done = machine.run(f"{RACKWRIGHT} check {name}", project)
    errors = [text for text in done.stderr.splitlines() if text.startswith("error")]
    lockless = len(errors) == 1 and errors[0].startswith("error[lock-missing]")
    need(done.returncode == 2 and lockless, f"check of {name} ended with {done.returncode}: {errors}")
    return len(written)


@line("deploy", "examples")
def test_an_example_is_complete_on_a_plain_machine(log: Log) -> str:
    need(log.run(["make", "wheel"]).returncode == 0, "make wheel failed")
    files = steps = 0
    with plain_machine(log) as machine:
        run(machine, log, f"rm -rf {CHECKOUT}", "/root")
        for command in (*INSTALL, INSTALL[-1].replace("requirements.txt", "requirements-s3.txt")):
            run(machine, log, command, "/root")
        for name in (example.value for example in DEPLOYMENTS):
            project = f"/root/{name}"
            files += _begin(machine, log, name)
            prepare(machine, log, project)
            for service, path in PATHS.items():
                text = machine.run(f"cat {path}", project).stdout
                run(machine, log, f"rm -rf {JOB}; git clone --quiet {project} {JOB}", "/root")
                for command in commands(service, yaml.safe_load(text), "check", project, f"{name}-models"):
                    run(machine, log, command, JOB)
                    steps += 1
    return f"{len(DEPLOYMENTS)} examples, {files} files; {steps} steps of their CI files checked them"
