"""Hardening, line 10: what a host says moves no cursor, writes no clipboard and forges no line at the operator's."""

import re

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.recorded_hosts import HOST
from tests.support.simulated_stack import facts_of, simulated_stack
from tests.support.terminal_controls import CLIPBOARD, OBEYED

HOSTILE = f"{CLIPBOARD}\u202e\u2066\x9b2J\nfleet.yaml:1: forged"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""Pulumi's and our own."""


@line("hardening", 10)
def test_texts_of_a_hostile_host_control_no_terminal(log: Log) -> str:
    """A host names a filesystem, a drive and itself by escape sequences; every command that shows them is looked at."""
    raw = facts_of(HOST)
    member = next(drive for drive in raw["drives"] if drive["serial"] == "RW01-NVME0")
    signature = {"type": "ext4", "usage": "filesystem", "uuid": HOSTILE, "label": HOSTILE, "offset": 1080}
    member |= {"signatures": [signature], "witnesses": ["9c1e"], "model": HOSTILE}
    raw["identity"]["hostname"] = HOSTILE
    texts: dict[str, str] = {}
    with simulated_stack(log, {HOST: raw}) as (lab, rack):
        host = rack[HOST]
        commands = {
            "preview": ("preview", lab.stack),
            "up": ("up", lab.stack, "--yes"),
            "audit": ("audit", lab.stack),
            "audit --json": ("audit", lab.stack, "--json"),
            "drive locate": ("drive", "locate", lab.stack, HOST, "RW01-NVME0"),
            "host reidentify": ("host", "reidentify", lab.stack, HOST),
        }
        for name, arguments in commands.items():
            done = lab.rackwright(*arguments)
            need("Traceback" not in done.stderr, f"{name} ended with a traceback: {done.stderr[-300:]}")
            texts[name] = done.stdout + done.stderr

        def fail(step: object) -> None:
            raise RuntimeError(HOSTILE)

        member |= {"signatures": [], "witnesses": [], "model": HOSTILE}
        host.set_facts(raw)
        host.on_step = fail
        texts["up, with a failing step"] = "".join((done := lab.up(status=4)).stdout + done.stderr)
    for name, text in texts.items():
        left = OBEYED & {*COLOURS.sub("", text)}
        need(not left, f"{name} prints {sorted(map(ascii, left))}")
        forged = [line for line in text.splitlines() if line.startswith("fleet.yaml:1: forged")]
        need(not forged, f"{name} prints a line that the host has written")
    visible = ("\\x1b]52", "\\u001b]52", "%1b%5d52")  # as text, in JSON, and in a consent
    shown = [name for name, text in texts.items() if any(each in text for each in visible)]
    need("preview" in shown and "up, with a failing step" in shown, f"the hostile text was shown by {shown} alone")
    return f"{len(texts)} commands print no control character of a host; {', '.join(shown)} show them as text"
