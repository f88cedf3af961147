"""Truth: a message names file and line, and a command in it can be pasted into a shell."""

import re
import shlex

from tests.support.acceptance import line
from tests.support.expect import errors, need
from tests.support.lab import PROJECT
from tests.support.log import ROOT, Log
from tests.support.stack_settings import configure
from tests.support.wrong_fleets import FLEETS, WRONG

PLACE = re.compile(r"[\w.-]+\.(yaml|py):[1-9][0-9]*: ")
NASTY = "a b$(touch pasted);`touch pasted`'c"
"""As a stack's name: whoever pastes a command with it runs no other."""


@line("hardening", "truth", part="messages")
def test_messages_name_file_and_line_and_their_commands_can_be_pasted(log: Log) -> str:
    stacks = log.empty_directory() / "project/stacks"
    stacks.mkdir(parents=True)
    (stacks.parent / "Pulumi.yaml").write_text(PROJECT)
    places = 0
    for name in FLEETS[:: max(1, len(FLEETS) // 12)]:
        (stacks / name).write_bytes((WRONG / name).read_bytes())
        stack = name.removesuffix(".yaml")
        configure(stacks.parent, stack, name, "rack")
        done = log.run([str(ROOT / ".venv/bin/rackwright"), "check", stack], stacks)
        lines = errors(done.stderr)
        need(done.returncode == 2 and lines, f"{name}: check ended with {done.returncode}")
        wrong = [line for line in lines if not PLACE.match(line)]
        need(not wrong, f"{name}: no file and line in {wrong}")
        places += len(lines)
    log("a name that is a command")
    (stacks / f"Pulumi.{NASTY}.yaml").write_text("config: {}\n")
    done = log.run([str(ROOT / ".venv/bin/rackwright"), "check", NASTY], stacks)
    command = done.stderr.partition("Run `")[2].rpartition("`")[0]
    need(NASTY in shlex.split(command), f"the fix does not name it as one word: {done.stderr}")
    pasted = log.run(["sh", "-c", command.replace("pulumi", "true", 1)], stacks)
    need(pasted.returncode == 0 and not (stacks / "pasted").exists(), f"pasted, `{command}` runs another command")
    return f"{places} messages with file and line; a stack named {NASTY!r} stays a name in the command to paste"
